"""The command line: argv, streams, signals, exit statuses."""

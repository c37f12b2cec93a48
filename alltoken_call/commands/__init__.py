"""The subcommands: each module has `HELP`, `FIELDS`, `add_arguments(parser)` and `run(args, context, output)`."""

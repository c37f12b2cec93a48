"""The tests: one module for each of the package's, over a real loopback socket where a connection matters."""

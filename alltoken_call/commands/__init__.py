"""The subcommands: each module has `HELP`, `EXAMPLE`, `FIELDS`, `add_arguments(parser)` and
`run(args, context, output)`, which returns where all went well and raises any other end."""

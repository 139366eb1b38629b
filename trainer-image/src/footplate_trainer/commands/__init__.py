"""The subcommands of `footplate-trainer`: each module has add_arguments(parser) and run(arguments)."""

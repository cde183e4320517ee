"""The command `lemumo`: one module a subcommand."""

"""The subcommands of corral that belong to the supervisor."""

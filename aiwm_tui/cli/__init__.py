"""The command line: one module a noun for lists and phrases, everything else generated from the request classes.

Data goes to stdout, talk to stderr, exit codes are those of `exit_codes`. Nothing here imports textual; rich and typer only where a
command needs them. It knows the engine by `engine.contract`, `engine.client`, `engine.spawning`, `engine.home` and `engine.resources`."""

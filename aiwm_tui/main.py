"""The command `aiwm`. What must be quick (`--version`, `--help`, `engine status`) is answered here, before anything is imported."""

import os
import sys


def main() -> int:
    """Run the command line in `sys.argv`; the exit code."""
    _open_standard_files()
    arguments = sys.argv[1:]
    try:
        code = _answer(arguments)
        _flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        _drop_output()
        return 0
    except OSError as error:
        _drop_output()
        sys.stderr.write(f"aiwm: the output cannot be written: {error.strerror}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _answer(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        from engine import __version__

        sys.stdout.write(f"aiwm {__version__}\n")
        return 0
    if arguments in (["--help"], ["-h"]):
        with open(os.path.join(os.path.dirname(__file__), "cli", "help.txt"), encoding="utf-8") as text:
            sys.stdout.write(text.read())
        return 0
    if arguments[:1] == ["__complete"]:
        from aiwm_tui.cli.completing import complete

        return complete(arguments[1:])
    if "status" in arguments:
        from aiwm_tui.cli.quick import status_options

        options = status_options(arguments)
        if options is not None:
            from aiwm_tui.cli.quick import engine_status

            return engine_status(options)
    if all(argument.startswith("-") for argument in arguments[:1]):
        from aiwm_tui.cli.console import bare

        code = bare(arguments)
        if code is not None:
            return code
    from aiwm_tui.cli.app import run

    return run(arguments)


def _open_standard_files() -> None:
    """With `>&-` the next file opened would become fd 1 and get our output: fill the gap, and be quiet."""
    if sys.stdin is None or sys.stdout is None or sys.stderr is None:
        while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(fd)
        sys.stdin = sys.stdin or os.fdopen(0, encoding="utf-8", closefd=False)
        sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
        sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)
    if sys.stdout.encoding.lower() != "utf-8" or sys.stdout.errors == "strict":
        # Text that the terminal cannot show is no reason to fail.
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        sys.stderr.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _drop_output() -> None:
    """Python would complain when its last flush fails: give it somewhere to write."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())

"""The root of the command line: which word is in which module, and what happens to errors on the way out.

Only the module of the word that was typed is imported; all of them for the help and for a word that nobody knows."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from aiwm_tui.cli.command import Home, cli_of
from aiwm_tui.cli.exit_codes import ExitCode
from aiwm_tui.cli.output import Format, Output
from engine.contract.errors import AiwmError, Code

WORDS = {
    "start": "start",
    "demo": "demo",
    "engine": "engine",
    "task": "task",
    "batch": "batch",
    "queue": "queue",
    "pool": "pool",
    "instance": "instance",
    "perf": "perf",
    "limits": "limits",
    "lesson": "lesson",
    "supervisor": "supervisor",
    "insight": "supervisor",
    "worker": "worker",
    "template": "template",
    "source": "source",
    "tool": "tool",
    "key": "key",
    "approval": "approval",
    "bundle": "bundle",
    "model": "model",
    "adapter": "adapter",
    "try": "trying",
    "view": "viewing",
    "why": "look",
    "usage": "usage",
    "report": "usage",
    "samples": "usage",
    "failure": "failure",
    "operation": "operation",
    "undo": "operation",
    "events": "events",
    "logs": "logs",
    "metrics": "metrics",
    "notify": "notify",
    "record": "recording",
    "replay": "recording",
    "doctor": "doctor",
    "info": "info",
    "config": "config",
    "completion": "completion",
    "call": "look",
    "http": "engine",
    "simulate": "engine",
}
"""Every first word, in the order of the help, and its module; a module's `add(app)` registers its words."""


_ARGUMENTS = "aiwm.arguments"


class InOrder(TyperGroup):
    """Commands in the order of WORDS, whichever way they were registered."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [word for word in WORDS if word in super(InOrder, self).list_commands(ctx)]


def build(word: str | None = None) -> typer.Typer:
    """The command tree: the part that a first word needs, or all of it."""
    app = typer.Typer(
        name="aiwm",
        cls=InOrder,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_root)
    modules = [WORDS[word]] if word in WORDS else dict.fromkeys(WORDS.values())
    for name in modules:
        import_module(f"aiwm_tui.cli.{name}").add(app)
    return app


def _root(
    context: typer.Context,
    home: Home = None,
    read_only: Annotated[  # noqa: ARG001 (read by `cli_of` from the context)
        bool, typer.Option("--read-only", help="look, but change nothing", show_default=False)
    ] = False,
    ssh: Annotated[
        str | None,
        typer.Option("--ssh", metavar="HOST", help="the console here, the engine on HOST", show_default=False),
    ] = None,
    record: Annotated[  # noqa: ARG001 (read by `cli_of` from the context)
        bool, typer.Option("--record", help="the console keeps the last 10 minutes: ctrl+r", show_default=False)
    ] = False,
    mouse: Annotated[  # noqa: ARG001 (read by `cli_of` from the context)
        bool | None,
        typer.Option("--mouse/--no-mouse", help="the console's mouse, or the terminal's", show_default=False),
    ] = None,
    bandwidth: Annotated[  # noqa: ARG001 (read by `cli_of` from the context)
        str | None,
        typer.Option("--bandwidth", metavar="MODE", help="auto, full, or small for a thin line", show_default=False),
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="print the version", show_default=False)] = False,
) -> int | None:
    """Operator console for AI workers that run on this machine.

    Without a command: the console on a terminal; elsewhere the demo, headless. Data goes to stdout, talk to stderr; --json prints one
    object, --jsonl one a line. Exit codes: 0 ok, 1 failed, 2 usage or configuration, 3 engine unreachable, 4 timeout, 5 refused, 130
    interrupted."""
    if version:
        from engine import __version__

        typer.echo(f"aiwm {__version__}")
        raise typer.Exit
    if ssh is not None:
        return _over_ssh(context, ssh, home)
    if context.invoked_subcommand is not None:
        return None
    from aiwm_tui.cli.console import open_console

    return open_console(cli_of(context, home))


def _over_ssh(context: typer.Context, host: str, home: Path | None) -> int:
    from aiwm_tui.cli.console import console_on_host
    from aiwm_tui.cli.remote import run_there

    if context.invoked_subcommand is not None:
        run_there(host, context.meta[_ARGUMENTS])
    return console_on_host(cli_of(context, home), host, home)


def run(arguments: list[str]) -> int:
    """Run a command line; the exit code."""
    output = Output(_format(arguments))
    word = next((argument for argument in arguments if argument in WORDS), None)
    # Options of the root that take a value may come first: only a word that is surely the command may be alone.
    alone = bool(arguments) and arguments[0] == word
    try:
        root: Any = typer.main.get_command(build(word if alone else None))
        with root.make_context("aiwm", list(arguments), obj=output) as context:
            context.meta[_ARGUMENTS] = arguments
            code = root.invoke(context)
        return int(code or 0)
    except typer.Exit as ended:
        return ended.exit_code
    except AiwmError as error:
        return output.error(error)
    except typer.TyperException as error:
        return _usage(output, error)
    except ConnectionError:
        # Either who reads our output has left, which is no failure, or the engine has, which is one.
        if _reader_gone():
            raise
        lost = "the connection to the engine is gone"
        return output.error(AiwmError(Code.connection_lost, lost, fix="aiwm engine status", retryable=True))
    except OSError as error:
        about = f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
        return output.error(AiwmError(Code.internal, about[:1].lower() + about[1:]))
    except UnicodeError:
        # Bytes of the command line or of a file name that are not text: JSON cannot carry them.
        return output.error(AiwmError(Code.bad_request, "the command line is not valid UTF-8"))


def _reader_gone() -> bool:
    import select

    poll = select.poll()
    poll.register(1, 0)
    return bool(poll.poll(0))


def _format(arguments: list[str]) -> Format:
    before = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if "--jsonl" in before:
        return Format.jsonl
    return Format.json if "--json" in before else Format.people


def _usage(output: Output, error: typer.TyperException) -> int:
    """A mistake on the command line as one line; a noun without a verb shows its help."""
    text = error.format_message()
    context: Any = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "aiwm"
    if output.for_people and text.startswith("Usage:"):
        output.raw(text)
        return ExitCode.usage
    if text.startswith("Usage:"):
        text = "a command is missing"
    message, _, suggestion = text.partition(" Did you mean ")
    possible = getattr(error, "possibilities", None)
    if possible:
        message, suggestion = message.partition(" (Possible")[0], " or ".join(possible) + "?"
    fix = f"did you mean {suggestion}" if suggestion else f"{path} --help"
    message = message.replace("Value error, ", "").strip().rstrip(".")
    info = AiwmError(Code.bad_request, message[:1].lower() + message[1:], field=_field(error), fix=fix)
    output.error(info)
    return ExitCode.usage


def _field(error: typer.TyperException) -> str | None:
    param = getattr(error, "param", None)
    name = getattr(param, "name", None)
    return name if isinstance(name, str) else getattr(error, "option_name", None)

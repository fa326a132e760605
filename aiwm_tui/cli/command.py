"""How a function becomes a command: its request's fields, its own options and the common ones; and what every command is given."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from aiwm_tui.cli.build import Param, as_typed, params_of, request_from, signature_of
from aiwm_tui.cli.output import Output
from engine.client import BlockingClient, connect_blocking
from engine.contract.errors import AiwmError
from engine.contract.requests.base import Request
from engine.home import default_home

Result = TypeVar("Result")
Body = Callable[..., int | None]

Json = Annotated[bool, typer.Option("--json", help="print one JSON object", show_default=False)]
JsonLines = Annotated[bool, typer.Option("--jsonl", help="print one JSON object a line", show_default=False)]
Home = Annotated[
    Path | None,
    typer.Option(
        "--home", metavar="DIR", help="the home to work on (default: AIWM_HOME, else XDG data)", show_default=False
    ),
]


class Cli:
    """What every command is given: the home it works on and where its words go."""

    def __init__(
        self,
        home: Path,
        output: Output,
        *,
        home_given: bool = False,
        read_only: bool = False,
        record: bool = False,
        console: dict[str, Any] | None = None,
    ) -> None:
        """`console`: flags that say how the console is wanted."""
        self.home = home
        self.home_given = home_given
        self.output = output
        self.read_only = read_only
        self.record = record
        self.console = console or {}

    @contextmanager
    def connected(self, *, work: bool = False, spawn: bool = True) -> Iterator[BlockingClient]:
        """A connection to the home's engine. One that is started for it dispatches tasks only if `work` asks."""
        with connect_blocking(self.home, spawn=spawn, work=work, read_only=self.read_only) as client:
            yield client

    def call(self, request: Request[Result], *, spawn: bool = True) -> Result:
        """One request on a connection of its own."""
        with self.connected(spawn=spawn) as client:
            return client.call(request)


def cli_of(context: typer.Context, home: Path | None) -> Cli:
    """What a command is given: --home of its own, else of `aiwm` itself, else the default."""
    root = context.find_root().params
    given = home or root.get("home")
    where = default_home() if given is None else Path(os.path.expanduser(given)).absolute()
    return Cli(
        where,
        context.obj,
        home_given=given is not None,
        read_only=bool(root.get("read_only")),
        record=bool(root.get("record")),
        console={name: root.get(name) for name in ("mouse", "bandwidth")},
    )


def command(
    app: typer.Typer,
    name: str,
    request: type[Request[Any]] | None = None,
    *,
    names: dict[str, str] | None = None,
    omit: tuple[str, ...] = (),
    context_settings: dict[str, Any] | None = None,
) -> Callable[[Body], Body]:
    """Register a function as a command. It gets `cli`, the `request` made from the command line (if a class is given) and its
    own keyword-only options. `names` renames fields' options, `omit` leaves fields to the function."""
    params = (
        []
        if request is None
        else [_renamed(param, names or {}) for param in params_of(request) if param.key not in omit]
    )

    def register(body: Body) -> Body:
        own = _own_options(body)

        def run(typer_context: typer.Context, **given: Any) -> int | None:
            cli = cli_of(typer_context, given.pop("home"))
            options = {parameter.name: given.pop(parameter.name) for parameter in own}
            if request is None:
                return body(cli, **options)
            try:
                return body(cli, request_from(request, params, given), **options)
            except AiwmError as error:
                # Programs are told the contract's field, people what they typed.
                raise as_typed(error, params) if cli.output.for_people else error from None

        context_parameter = inspect.Parameter(
            "typer_context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
        )
        signature = signature_of(params, [*own, *_common()])
        signature = signature.replace(parameters=[context_parameter, *signature.parameters.values()])
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in signature.parameters.values()}
        help_text = inspect.getdoc(body) or (inspect.getdoc(request) if request else None)
        app.command(name, help=help_text, context_settings=context_settings)(run)
        return body

    return register


def _renamed(param: Param, names: dict[str, str]) -> Param:
    return param._replace(name=names[param.key]) if param.key in names else param


def _own_options(body: Body) -> list[inspect.Parameter]:
    hints = get_type_hints(body, include_extras=True)
    return [
        parameter.replace(annotation=hints[parameter.name])
        for parameter in inspect.signature(body).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]


def _common() -> list[inspect.Parameter]:
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, default, annotation in (("json", False, Json), ("jsonl", False, JsonLines), ("home", None, Home))
    ]


def group(app: typer.Typer, name: str, help_text: str) -> typer.Typer:
    """A noun: a group of commands under the root."""
    noun = typer.Typer(help=help_text, no_args_is_help=True, add_completion=False, rich_markup_mode=None)
    app.add_typer(noun, name=name)
    return noun

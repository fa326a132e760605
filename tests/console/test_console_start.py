"""How the console starts: what is imported before its first frame, what is typed before it stands, and how it is left in the middle."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from textual import events

from aiwm_tui.cli import console as cli_console
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.session import EngineStop
from tests.support.console_engine import ConsoleEngine
from tests.support.screens import press, shows, wait_until

SCRIPT = """
import json, sys
import aiwm_tui.running, aiwm_tui.screens.overview.screen, aiwm_tui.deeds
print(json.dumps(sorted(sys.modules)))
"""
LATER = (
    "textual.widgets._text_area",
    "textual.widgets._markdown",
    "textual.widgets._data_table",
    "tree_sitter",
    "markdown_it",
    "typer",
    "numpy",
    "sqlite3",
    "aiwm_tui.screens.dialogs",
    "aiwm_tui.screens.help",
    "aiwm_tui.screens.tasks",
    "engine.client",
)
ROOMS = ("engine.contract", "engine.resources")


@pytest.fixture(scope="module")
def imported() -> list[str]:
    done = subprocess.run([sys.executable, "-P", "-c", SCRIPT], capture_output=True, text=True, check=True)
    modules: list[str] = json.loads(done.stdout)
    return modules


@pytest.mark.parametrize("name", LATER)
def test_the_first_frame_does_not_pay_for_later_screens(imported: list[str], name: str) -> None:
    assert [module for module in imported if module == name or module.startswith(name + ".")] == []


def test_the_console_knows_the_contract_only(imported: list[str]) -> None:
    strange = [m for m in imported if m.startswith("engine.") and not m.startswith(ROOMS)]
    assert strange == []


BARE = """
import json, sys
import aiwm_tui.running, aiwm_tui.cli.console, aiwm_tui.main
aiwm_tui.cli.console.terminal_on_both_ends = lambda: True
def run(home, preferences, **options):
    print(json.dumps([str(home), {**options, "theme": preferences.theme}, sorted(sys.modules)]))
    return 0
aiwm_tui.running.run_console = run
sys.exit(aiwm_tui.main.main())
"""


def _bare(tmp_path: Path, *arguments: str, **environment: str) -> tuple[str, dict[str, Any], list[str]]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", BARE, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "AIWM_HOME": str(tmp_path / "home"), **environment},
    )
    home, options, modules = json.loads(done.stdout)
    return home, options, modules


def test_bare_aiwm_opens_the_console_without_a_command_line(tmp_path: Path) -> None:
    home, options, modules = _bare(tmp_path)
    assert home == str(tmp_path / "home")
    assert options == {"location": None, "read_only": False, "theme": "dark", "spawn": True, "record": False}
    assert not {"typer", "engine.client"} & set(modules)
    home, options, modules = _bare(tmp_path, "--home", "elsewhere", "--read-only")
    assert (home, options["read_only"]) == (os.path.join(os.getcwd(), "elsewhere"), True)


def test_the_theme_comes_from_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[console]\ntheme = "light"\n')
    assert _bare(tmp_path, AIWM_CONFIG=str(file))[1]["theme"] == "light"
    assert _bare(tmp_path, AIWM_CONFIG=str(file), AIWM_CONSOLE__THEME="mono")[1]["theme"] == "mono"


@pytest.mark.parametrize(
    ("text", "said"),
    [('[console]\ntheme = "darj"\n', 'no theme "darj" (did you mean "dark"?)'), ("[console]\ntheme = 1\n", "theme")],
)
def test_a_wrong_configuration_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    monkeypatch.setenv("AIWM_CONFIG", str(file))
    monkeypatch.setattr(cli_console, "terminal_on_both_ends", lambda: True)
    assert cli_console.bare([]) == 2
    error = capsys.readouterr().err
    assert error.startswith("aiwm: ")
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--json"], ["--help"], ["queue", "list"], ["--home"]])
def test_what_is_more_than_bare_is_left_to_the_command_line(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr(cli_console, "terminal_on_both_ends", lambda: True)
    assert cli_console.bare(arguments) is None


@pytest.mark.parametrize("elsewhere", ["stdin", "stdout", "stderr"])
def test_no_console_is_opened_where_its_frames_or_keys_go_elsewhere(
    monkeypatch: pytest.MonkeyPatch, elsewhere: str
) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(getattr(sys, name), "isatty", lambda name=name: name != elsewhere, raising=False)
    assert not cli_console.terminal_on_both_ends()
    monkeypatch.setattr(getattr(sys, elsewhere), "isatty", lambda: True)
    assert cli_console.terminal_on_both_ends()


async def _turns(number: int) -> None:
    """Let everything else that runs on this loop go on, without a clock."""
    for _ in range(number):
        await asyncio.sleep(0)


async def test_what_is_typed_before_the_first_screen_stands_waits_for_it(
    engine: ConsoleEngine, console: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys come, in the worst moment, while the body is put up: they found no screen to work on."""
    from aiwm_tui.screens.overview.screen import OverviewPage

    mounted = OverviewPage.on_mount
    before: list[str] = []

    async def slowly(page: OverviewPage) -> None:
        for key, character in (("3", "3"), ("colon", ":"), ("w", "w"), ("o", "o")):
            page.app.post_message(events.Key(key, character))
        await _turns(100)
        before.append(str(app.navigation.history.here))
        mounted(page)

    monkeypatch.setattr(OverviewPage, "on_mount", slowly)
    app = console()
    async with app.run_test(size=(120, 36)):
        await shows(app, ":queues", "summaries", "wo")
        await wait_until(lambda: app.shell.prompted)
        assert app.screen.query_one("PromptInput").value == ":wo"
    assert len(before) == 1
    assert ":overview" in before[0]


async def test_leaving_while_another_screen_is_put_up(
    engine: ConsoleEngine, console: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ "Stop now" is answered in the middle of a navigation: the app went from under the page that was being mounted."""
    from aiwm_tui.screens.overview.screen import OverviewPage

    navigating, answered = asyncio.Event(), asyncio.Event()

    async def slowly(page: OverviewPage) -> None:
        navigating.set()
        await asyncio.wait_for(answered.wait(), 15)
        await _turns(100)

    monkeypatch.setattr(OverviewPage, "on_unmount", slowly, raising=False)
    app = console()
    async with app.run_test(size=(120, 36)):
        await shows(app, "run 2  wait 14")
        call = app.link.call

        async def late(request: Any, **options: Any) -> Any:
            answer = await call(request, **options)
            if isinstance(request, EngineStop):
                await asyncio.wait_for(navigating.wait(), 15)
                answered.set()
            return answer

        monkeypatch.setattr(app.link, "call", late)
        await press(app, "q")
        await shows(app, "LEAVE:")
        await press(app, "3")
        app.open_location(":queues")
        await wait_until(lambda: not app.is_running)
    assert app.return_code == 0
    assert EngineStop(mode="now") in engine.requests


async def test_an_engine_that_refuses_to_stop_leaves_the_console_usable(engine: ConsoleEngine, console: Any) -> None:
    engine.refuse[EngineStop] = AiwmError(Code.denied, "it may not be stopped")
    app = console()
    async with app.run_test(size=(120, 36)):
        await shows(app, "run 2  wait 14")
        await press(app, "q")
        await shows(app, "LEAVE:")
        await press(app, "3")
        await shows(app, "it may not be stopped")
        await press(app, "3")
        await shows(app, ":queues")

"""The start page on the stand-in engine: what it says is here, what its ways ask for, and where the console opens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aiwm_tui.beginning import first_location
from aiwm_tui.collecting import Collection
from aiwm_tui.live.text import plain
from aiwm_tui.screens.batches.page import batch_lines
from engine.contract.errors import AiwmError, Code, ErrorInfo
from engine.contract.records import BatchRow
from engine.contract.requests import home, memory, models, session
from engine.contract.requests.batches import BatchResult
from engine.home import database_path
from tests.support.console_answers.home import REPORT, SERVERS, VERDICTS
from tests.support.console_engine import NOW, ConsoleEngine
from tests.support.screens import hides, line_of, press, shows, text_of, wait_until

SIZE = (120, 40)


def asked(engine: ConsoleEngine, kind: type[Any]) -> list[Any]:
    return [request for request in engine.requests if isinstance(request, kind)]


async def test_what_is_here_is_said_as_it_is_found(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":start")
    async with app.run_test(size=SIZE):
        await shows(
            app,
            "home /home/ana/.local/share/aiwm (new, 148k)",
            "A toy: sums, extraction, JSON. It proves the machinery",
        )
        await shows(app, "! GPU", "RTX 4090", "2.9G of 24.0G free", "not ours: ", "3.9G pid 88412 python (ana)")
        await shows(
            app, "exllamav2 is not installed", "pip install 'aiwm[gpu]'", "until then GGUF files and servers work"
        )
        await shows(app, "llama-swap on :8080 (3 models) · TabbyAPI on :5000 (needs a key)", "/srv/models 3")
        await shows(
            app, "use the 3 models behind llama-swap on :8080", "use a model from /srv/models", "first start, looked"
        )
        await shows(
            app, "qwen14", "EXL2 5 bpw", "16.0G", "GPU0", "exllamav2", "damaged", "model.safetensors is cut off"
        )
        assert "notes" not in text_of(app).split("WHAT THESE MODELS NEED")[1], "what is no model is left out"


async def test_without_a_gpu_it_says_so_and_what_would_be_needed(engine: ConsoleEngine, console: Any) -> None:
    del engine.tables["devices"]["GPU0"]
    finding = session.Finding(what="GPU", state="warn", seen="no GPU: no driver: models run on the CPU")
    engine.answers[session.EngineDoctor] = lambda *_: [finding]
    engine.answers[models.ModelDetect] = lambda *_: models.Detected()
    app = console(location=":start")
    async with app.run_test(size=SIZE):
        await shows(app, "○ GPU", "no GPU: no driver", "an NVIDIA card and its driver")
        await shows(app, "none answers here on ports 8080", "none in the usual places")
        await shows(app, "none answers on this machine: start one, or say its address")


async def test_the_first_frame_waits_for_nothing_and_what_cannot_be_found_out_says_why(
    engine: ConsoleEngine, console: Any
) -> None:
    engine.hangs = {home.HomeLook, session.EngineDoctor}
    engine.refuse[models.ModelDetect] = AiwmError(Code.timeout, "model.detect took longer than 8 s")
    app = console(location=":start")
    async with app.run_test(size=SIZE):
        await shows(app, "START HERE", "engine           looking …", "GPU              looking …", "looking around …")
        await shows(app, "! servers          not known: model.detect took longer than 8 s")


async def test_the_ways_that_change_something_are_barred_where_nothing_may_be_changed(
    engine: ConsoleEngine, console: Any
) -> None:
    engine.read_only = True
    app = console(location=":start")
    async with app.run_test(size=SIZE):
        await shows(app, "read-only: nothing can be added or submitted", "nothing of it stays")
        await press(app, "4")
        await shows(app, "4 this console is read-only")
        assert len(app.screen_stack) == 1


async def test_a_servers_models_are_added_and_what_is_refused_hinders_nothing(
    engine: ConsoleEngine, console: Any
) -> None:
    app = console(location=":start")
    async with app.run_test(size=SIZE):
        await shows(app, "use the 3 models behind")
        await press(app, "2")
        await shows(app, "USE THE MODELS OF A SERVER", "says nothing without a key", "qwen14, llama8, [red]x")
        await press(app, "enter")
        await shows(app, ":models", "in use: qwen14, [red]x; 1 refused: there is a model")
        assert [(it.url, it.remote) for it in asked(engine, models.ModelAdd)] == [
            (SERVERS[0].url, name) for name in SERVERS[0].models
        ]


async def test_a_model_found_on_disk_is_judged_added_and_loaded(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":start")
    async with app.run_test(size=SIZE):
        await shows(app, "qwen14", "looked around")
        await press(app, "3")
        await shows(app, "› qwen14", "── qwen14 usable", "adds and loads it: exllamav2 on GPU0", "│ ␛[31m[bold]")
        assert "\x1b" not in text_of(app)
        await press(app, "down")
        await shows(app, "To do: pip install vllm")
        await press(app, "L")
        await shows(app, "✗ awq: vLLM: not in PATH")
        assert asked(engine, models.ModelAdd) == []
        await press(app, "up", "L")
        await wait_until(lambda: asked(engine, models.ModelAdd) and asked(engine, memory.ModelPlan))
        await shows(app, "LOAD qwen14", "who is hit")
        await press(app, "enter")
        await shows(app, "qwen14.0 is up", ":models model:qwen14")
        assert asked(engine, models.ModelAdd)[0].path == VERDICTS[0].path


async def test_another_directory_is_asked_for_and_a_wrong_one_is_said_at_its_field(
    engine: ConsoleEngine, console: Any
) -> None:
    engine.answers[models.ModelDetect] = lambda *_: models.Detected()
    app = console(location=":start")
    async with app.run_test(size=SIZE):
        await shows(app, "none in the usual places: say where they lie")
        await press(app, "3")
        await shows(app, "MODELS IN A DIRECTORY")
        engine.refuse[models.ModelCheck] = AiwmError(Code.model_not_found, "there is nothing at /nope", field="path")
        await press(app, *"/nope", "enter")
        await shows(app, "✗ there is nothing at /nope")
        del engine.refuse[models.ModelCheck]
        await press(app, *["backspace"] * 5, *"/srv/models", "enter")
        await shows(app, "› qwen14", "judged what is in /srv/models")


async def test_every_way_can_be_gone_by_its_number_and_by_the_cursor(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":start")
    async with app.run_test(size=SIZE):
        await shows(app, "looked around")
        await press(app, "4")
        await shows(app, "PUT A FILE OF PROMPTS THROUGH A MODEL")
        await press(app, "escape")
        await hides(app, "PUT A FILE")
        await press(app, "5")
        await shows(app, "YOUR FIRST WORKER")
        await press(app, "escape")
        await shows(app, "nothing was made")
        await press(app, "home", "down", "enter")
        await shows(app, "USE THE MODELS OF A SERVER")
        await press(app, "escape")
        await hides(app, "USE THE MODELS OF")
        await press(app, "6")
        await shows(app, ":models")


@pytest.mark.parametrize("size", [(160, 45), (80, 24), (40, 10)])
async def test_the_ways_are_there_at_every_size(console: Any, size: tuple[int, int]) -> None:
    app = console(location=":start")
    async with app.run_test(size=size):
        await shows(app, "START HERE", "1 ", "5 ", "looked around")
        await press(app, "3")
        await shows(app, "› qwen14", "16.0G")
        await press(app, "tab")
        await shows(app, "› 1")


# Where the console opens


async def test_a_home_without_anything_of_its_own_begins_on_the_start_page(engine: ConsoleEngine, console: Any) -> None:
    app = console(undecided=True)
    async with app.run_test(size=SIZE):
        await shows(app, "START HERE")
        assert line_of(app, 1).startswith(" :start")
        assert app.navigation.history.here.location == ":start"


async def test_a_home_with_something_of_its_own_begins_on_the_overview(engine: ConsoleEngine, console: Any) -> None:
    engine.answers[home.HomeLook] = lambda *_: home.HomeReport(home="/h", bytes=1, tasks=3, pristine=False)
    app = console(undecided=True)
    async with app.run_test(size=SIZE):
        await wait_until(lambda: asked(engine, home.HomeLook))
        await shows(app, ":overview", "NEEDS YOU")
        await hides(app, "START HERE")


async def test_who_went_elsewhere_meanwhile_stays_there(engine: ConsoleEngine, console: Any) -> None:
    engine.hangs = {home.HomeLook}
    app = console(undecided=True)
    async with app.run_test(size=SIZE):
        await shows(app, ":overview", "anvil")
        await press(app, "3")
        await shows(app, ":queues")
        call = app.link.call

        async def late(request: Any, **options: Any) -> Any:
            return REPORT if isinstance(request, home.HomeLook) else await call(request, **options)

        app.link.call = late
        from aiwm_tui.beginning import decide

        await decide(app, ":overview")
        await press(app, "home")
        assert line_of(app, 1).startswith(" :queues")


def test_a_home_without_a_database_is_a_new_one(tmp_path: Any) -> None:
    assert first_location(tmp_path, ":overview") == ":start"
    database_path(tmp_path).touch()
    assert first_location(tmp_path, ":overview") == ":overview"


# What goes with it


async def test_leaving_says_what_goes_on_with_answers_that_are_being_written(
    engine: ConsoleEngine, console: Any
) -> None:
    app = console()
    async with app.run_test(size=(80, 24)):
        await shows(app, "run 2")
        app.collections["b-1"] = Collection("b-1", Path("/tmp/my answers.jsonl"))
        await press(app, "q")
        await shows(app, "LEAVE: 2 tasks run", "the engine works on", "running tasks go back and wait; nothing is lost")
        await shows(app, "aiwm batch wait b-1 --out '/tmp/my answers.jsonl'")
        await press(app, "escape")
        app.collections["b-1"].over = True
        await hides(app, "LEAVE:")
        await press(app, "q")
        await shows(app, "LEAVE: 2 tasks run")
        assert "aiwm batch wait" not in text_of(app)


async def test_a_file_is_asked_for_on_batches_and_a_definition_on_workers(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":batches")
    async with app.run_test(size=SIZE):
        await shows(app, "N puts a file of prompts through a model")
        await press(app, "N")
        await shows(app, "N  PUT A FILE OF PROMPTS THROUGH A MODEL", "aiwm-nano")
        await press(app, "escape")
        await hides(app, "PUT A FILE")
        await press(app, "8")
        await shows(app, ":workers", "echo")
        await press(app, "N")
        await shows(app, "NEW WORKER", "capabilities")


def test_a_batch_as_lines_says_how_far_it_is_and_where_its_answers_go() -> None:
    row = BatchRow(
        id="b-1", state="processing", queue="etl", by="ana", at_ms=NOW, total=10, waiting=4, running=1, completed=4,
        failed=1, cancelled=0, per_min=2.0, eta_ms=NOW + 150_000,
    )  # fmt: skip
    failed = BatchResult(
        index=4, key="", id="t-1", state="failed", error=ErrorInfo(code="task_failed", message="\x1b[31mno")
    )
    fine = BatchResult(index=3, key="k\x07", id="t-2", state="completed", result={"text": " 42\n"})
    text = "\n".join(plain(line) for line in batch_lines(row, [fine, failed], None, NOW))
    assert "5 of 10 ended   run 1   wait 4   failed 1" in text
    assert "2.0 a minute, done about 03:10:11, in 2m30s" in text
    assert "aiwm batch wait b-1 --out FILE" in text
    assert text.index("✗ 4") < text.index("✓ k␇"), "the latest first"
    assert "\x1b" not in text
    collection = Collection("b-1", Path("/out.jsonl"))
    collection.written, collection.error = 3, AiwmError(Code.storage_failed, "the disk is full")
    text = "\n".join(plain(line) for line in batch_lines(row, [], collection, NOW))
    assert "3 answers written so far to /out.jsonl" in text
    assert "the disk is full" in text


def test_the_first_frame_of_a_new_home_pays_for_itself_only() -> None:
    script = (
        "import sys, aiwm_tui.app, aiwm_tui.screens.overview.screen; before = set(sys.modules);"
        "import aiwm_tui.screens.start.page; print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert [name for name in done.stdout.split() if not name.startswith("aiwm_tui.screens.start")] == []

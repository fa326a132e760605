"""The ways to begin, on a real engine: each does what it says, and leaves what it says."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import tempfile
from pathlib import Path
from typing import Any

import pytest

from aiwm_tui.app import ConsoleApp
from aiwm_tui.screens.demo import page as demo
from engine.client import connect
from engine.contract.requests.batches import BatchShow
from engine.contract.requests.fleet import PoolShow, QueuePause, QueueShow, WorkerList, WorkerShow
from engine.contract.requests.home import HomeLook
from tests.support import engines
from tests.support.screens import hides, press, shows, text_of, wait_until

SIZE = (120, 40)


def _app(home: Path, location: str = ":start", **options: Any) -> ConsoleApp:
    async def dial() -> Any:
        return await connect(home, spawn=False, name="console")

    return ConsoleApp(dial, location=location, **options)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary homes are made. A short path: their sockets lie in them."""
    place = Path(tempfile.mkdtemp(prefix="aiwm-t-"))
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


async def test_the_toy_model_works_in_a_home_of_its_own_and_nothing_stays(
    home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "MESSAGES", 6)
    with engines.engine(home) as running:
        app = _app(home)
        async with app.run_test(size=SIZE):
            await shows(app, "START HERE", "ready. A toy")
            await press(app, "1")
            await wait_until(lambda: list(folder.glob("aiwm-demo-*")), "a home of its own", 30)
            await shows(app, "THE TOY MODEL AT WORK", "6 of 6 answered", "tok/s")
            await shows(app, "its home is removed: nothing of it is left", "R again")
            assert not os.listdir(folder)
            assert running.client().call(HomeLook()).pristine, "the console's own home is as it was"


@pytest.mark.slow
async def test_leaving_the_demo_early_leaves_nothing_either(home: Path, folder: Path) -> None:
    with engines.engine(home):
        app = _app(home)
        async with app.run_test(size=SIZE):
            await shows(app, "START HERE", "ready. A toy")
            await press(app, "1")
            await wait_until(lambda: list(folder.glob("aiwm-demo-*/engine.sock")), "its engine", 30)
            await press(app, "escape")
            await shows(app, "START HERE")
            await wait_until(lambda: not list(folder.iterdir()), "its home to be gone", 30)


@pytest.mark.slow
async def test_leaving_the_console_waits_until_the_demo_is_gone(home: Path, folder: Path) -> None:
    with engines.engine(home):
        app = _app(home)
        async with app.run_test(size=SIZE):
            await shows(app, "START HERE", "ready. A toy")
            await press(app, "1")
            await wait_until(lambda: list(folder.glob("aiwm-demo-*")), "a home of its own", 30)
        assert not os.listdir(folder)


async def test_a_file_of_prompts_goes_through_a_model_and_its_answers_into_a_file(home: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "sums.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"What is {n} + 1?", "n": f"s{n}"}) + "\n" for n in range(20)))
    with engines.engine(home):
        app = _app(home)
        async with app.run_test(size=SIZE):
            await shows(app, "START HERE", "looked around")
            await press(app, "4")
            await shows(app, "PUT A FILE OF PROMPTS", "aiwm-nano")
            await press(app, *str(prompts), *["tab"] * 4, *"n", "enter")
            await shows(app, ":batches/sums", "✓ completed", "20 of 20 ended")
            answers = tmp_path / "sums.jsonl.answers.jsonl"
            await shows(app, "✓ sums: 20 answers are in")
            found = [json.loads(line) for line in answers.read_text().splitlines()]
            assert [it["key"] for it in found] == [f"s{n}" for n in range(20)]
            await press(app, "enter")
            await shows(app, ":tasks batch:sums", "20 match of 20")


async def test_a_bad_line_is_named_and_nothing_is_submitted(home: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "bad.jsonl"
    prompts.write_text('{"prompt": "What is 1 + 1?"}\n{"prompt": 5}\nnot json\n')
    with engines.engine(home) as running:
        app = _app(home)
        async with app.run_test(size=SIZE):
            await shows(app, "START HERE", "looked around")
            await press(app, "4")
            await shows(app, "PUT A FILE OF PROMPTS", "aiwm-nano")
            await press(app, *str(prompts), "enter")
            await shows(app, "✗ 2 of 3 lines are bad; line 2", "nothing was submitted")
            await press(app, *["backspace"] * 9, *"none.jsonl", "enter")
            await shows(app, "cannot be read: No such file")
            assert running.client().call(HomeLook()).tasks == 0


@pytest.mark.slow
async def test_answers_go_on_where_the_file_ends_and_another_file_is_not_written_to(home: Path, tmp_path: Path) -> None:
    prompts, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"What is {n} + 1?"}) + "\n" for n in range(4)))
    with engines.engine(home) as running:
        running.client().call(QueuePause(name="demo"))
        app = _app(home, ":queues")
        async with app.run_test(size=SIZE):
            await shows(app, "paused")
            await wait_until(lambda: app.page.row is not None)
            await press(app, "N")
            await shows(app, "SUBMIT A TASK")
            # The file's line has one line: ↵ there submits.
            await press(app, "tab", *str(prompts), "enter")
            await shows(app, ":batches/in", "0 of 4 ended", "aiwm batch wait in --out FILE")
            assert running.client().call(BatchShow(name="in")).total == 4
        out.write_text('{"somebody": "else"}\n')
        from aiwm_tui.collecting import Collection, begin
        from engine.contract.errors import AiwmError

        app = _app(home)
        async with app.run_test(size=SIZE):
            await shows(app, "START HERE", "looked around")
            with pytest.raises(AiwmError, match="holds something else than results of batch in"):
                await begin(app, Collection("in", out))


async def test_a_first_worker_is_made_step_by_step(home: Path) -> None:
    with engines.engine(home) as running:
        client = running.client()
        app = _app(home)
        async with app.run_test(size=SIZE):
            await shows(app, "START HERE", "looked around")
            await press(app, "5")
            await shows(app, "step 1 of 4: worker", "aiwm worker create helper --model aiwm-nano")
            # A name that is taken is refused by the engine, at its field.
            await press(app, *["backspace"] * 6, *"nano", "enter")
            await shows(app, '✗ there is a worker "nano" already')
            await press(app, *["backspace"] * 4, *"sums", "tab", "tab", *"You add.", "enter")
            await shows(app, "step 2 of 4: pool", "aiwm pool create sums sums --max-total 2")
            await press(app, "tab", "backspace", *"0", "enter")
            await shows(app, "✗ ", "max_total")
            await press(app, "backspace", *"3", "enter")
            await shows(app, "step 3 of 4: queue", "aiwm queue create sums --pools sums")
            # Back a step: what was typed is there still, and nothing has been made.
            await press(app, "escape")
            await shows(app, "step 2 of 4: pool", "--max-total 3")
            assert client.call(HomeLook()).pristine
            await press(app, "enter")
            await shows(app, "step 3 of 4: queue")
            await press(app, "enter")
            await shows(app, "step 4 of 4: first task", "aiwm task submit sums --prompt 'What is 17 + 25?'")
            assert client.call(HomeLook()).pristine
            await press(app, "ctrl+s")
            await shows(app, ":tasks/t-10001", "✓ completed", "42", "made worker sums, pool sums, queue sums")
        worker = client.call(WorkerShow(name="sums")).definition
        assert (worker.model, worker.system) == ("aiwm-nano", "You add.")
        assert client.call(PoolShow(name="sums")).definition.max_total == 3
        assert client.call(QueueShow(name="sums")).definition.pools == ("sums",)


async def test_the_first_step_left_makes_nothing(home: Path) -> None:
    with engines.engine(home) as running:
        app = _app(home)
        async with app.run_test(size=(80, 24)):
            await shows(app, "START HERE", "looked around")
            await press(app, "5")
            await shows(app, "YOUR FIRST WORKER", "next step")
            await press(app, "enter")
            await shows(app, "step 2 of 4")
            await press(app, "escape")
            await shows(app, "step 1 of 4")
            await press(app, "escape")
            await hides(app, "YOUR FIRST WORKER")
            await shows(app, "nothing was made")
            assert running.client().call(HomeLook()).pristine


@pytest.mark.slow
async def test_the_shown_commands_make_the_same(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the guide shows for the shell, typed there, makes what the guide would have made."""
    from aiwm_tui.cli.app import run
    from aiwm_tui.guide import Plan

    plan = Plan(["aiwm-nano"])
    plan.values = [
        {
            "name": "w1",
            "model": "aiwm-nano",
            "system": "It's $HOME.",
            "sampling.max_tokens": 7,
            "sampling.temperature": 0.5,
        },
        {"name": "p1", "max_total": 3, "min_idle": 1},
        {"name": "q1", "retry.max_retries": 5, "durability": "os", "default_priority": 2},
        {"payload": {"prompt": "What is 1 + 1?"}},
    ]
    worker, pool, queue = plan.definitions()
    with engines.engine(home) as running:
        for command in plan.commands(3):
            words = shlex.split(command)
            assert words[0] == "aiwm"
            code = await asyncio.to_thread(run, ["--home", str(home), *words[1:]])
            assert code == 0, (command, capsys.readouterr().err)
        client = running.client()
        assert client.call(WorkerShow(name="w1")).definition == worker
        assert client.call(PoolShow(name="p1")).definition == pool
        assert client.call(QueueShow(name="q1")).definition == queue
        assert client.call(HomeLook()).tasks == 1
        assert {row.id for row in client.call(WorkerList())} == {"nano", "echo", "w1"}


@pytest.mark.slow
async def test_a_real_home_begins_on_the_start_page_until_something_is_done(home: Path) -> None:
    with engines.engine(home) as running:
        app = _app(home, ":overview", undecided=True)
        async with app.run_test(size=SIZE):
            await shows(app, "START HERE", "none answers here" if "none answers" in text_of(app) else "servers")
        running.client().call(QueuePause(name="demo"))
        app = _app(home, ":overview", undecided=True)
        async with app.run_test(size=SIZE):
            await shows(app, "NEEDS YOU", "‖ paused")
            await hides(app, "START HERE")


async def test_the_shell_says_what_the_start_page_says(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from aiwm_tui.cli.app import run

    with engines.engine(home):
        assert await asyncio.to_thread(run, ["--home", str(home), "start"]) == 0
        said = capsys.readouterr().out
        for words in ("WHAT IS HERE", f"home {home} (new", "A toy: sums", "START HERE", "aiwm demo --headless"):
            assert words in said
        assert await asyncio.to_thread(run, ["--home", str(home), "start", "--json"]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert answer["kind"] == "start"
        assert answer["data"]["home"]["pristine"]
        assert {it["what"] for it in answer["data"]["findings"]} >= {"GPU", "storage"}

"""Models and devices, adapters, and one prompt under several: what they show, and what their keys ask for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aiwm_tui.screens.compare.page import ComparePage
from engine.contract.errors import AiwmError, Code
from engine.contract.records import DeviceRow
from engine.contract.requests import adapters as about_adapters
from engine.contract.requests import memory
from engine.contract.requests.comparisons import AdapterCompare, TaskCompare
from engine.contract.requests.tasks import TaskSubmit
from tests.support.console_engine import NOW, ConsoleEngine
from tests.support.console_inference import models
from tests.support.screens import hides, press, shows, text_of, wait_until

SIZE = (120, 36)


@pytest.fixture
def served(engine: ConsoleEngine) -> ConsoleEngine:
    engine.tables["models"].clear()
    engine.put("models", *models())
    return engine


def asked(engine: ConsoleEngine, kind: type[Any]) -> list[Any]:
    return [request for request in engine.requests if isinstance(request, kind)]


async def on_row(app: Any, identifier: str) -> None:
    """Put the cursor on a row, wherever it is."""
    await wait_until(lambda: app.page.row is not None)
    await press(app, "home")
    for _ in range(20):
        if app.page.row.id == identifier:
            return
        await press(app, "down")
    raise AssertionError(identifier)


# Models


async def test_bars_of_letters_say_who_holds_what(served: ConsoleEngine, console: Any) -> None:
    app = console(location=":models")
    async with app.run_test(size=SIZE):
        await shows(
            app, "W weights  K KV pages  A adapters  S scratch  x not ours  · free", "util · temp · power · PCIe"
        )
        await shows(app, "GPU0 RTX 4090", "2.9G of 24.0G free", "97 %", "71°C", "388/450W")
        (gpu,) = [line for line in text_of(app).splitlines() if "GPU0 RTX" in line]
        letters = gpu.split("4090")[1].split()[0]
        # 9.4, 6, 0.3, 1 and 4.3 of 24 GB: in this order, each by its share, the smallest still there.
        assert letters.strip("WKASx·") == ""
        counts = [letters.count(letter) for letter in "WKASx·"]
        assert letters == "".join(letter * count for letter, count in zip("WKASx·", counts, strict=True))
        assert counts[0] > counts[1] > counts[4] > counts[3] >= counts[2] == 1
        await shows(app, "not ours: GPU0 3.9G pid 88412 python (ana)", "87.0G of 128.0G free")
        await shows(app, "qwen14.0", "5.1G/6.0G", "8/8", "362", "always")
        served.put("devices", DeviceRow(id="GPU0", name="RTX 4090", total_bytes=100, free_bytes=100))
        await shows(app, "100B of 100B free")
        await hides(app, "88412")


async def test_a_small_terminal_shows_the_table_instead_of_the_bars(served: ConsoleEngine, console: Any) -> None:
    app = console(location=":models")
    async with app.run_test(size=(80, 20)):
        await shows(app, "qwen14.0", "mistral24")
        await hides(app, "W weights")


async def test_the_plan_of_a_model_that_does_not_fit_is_in_the_strip_and_L_goes_a_way_of_it(
    served: ConsoleEngine, console: Any
) -> None:
    app = console(location=":models")
    async with app.run_test(size=SIZE):
        await on_row(app, "mistral24")
        await shows(app, "12.6G weights + 2.0G KV (16.4k)", "= 15.8G", "last measured 15.6G", "who is hit")
        await shows(app, "1  unload llama8.0 after its 4", "20.2G", "triage: inbox waits; chat of ana", "03:08:05")
        await shows(app, "2  ana ends pid 88412", "not enough: 5.0G short on GPU0")
        await press(app, "L")
        await shows(app, "LOAD mistral24", "aiwm model load mistral24 --way 1 --yes")
        await press(app, "enter")
        await shows(app, "mistral24.0 is up in 1.9s: 1.0G, 1.0G planned; unloaded llama8.0")
        (request,) = asked(served, memory.ModelLoad)
        assert (request.way, request.plan, request.yes) == (1, "p-1", True)


async def test_a_model_that_fits_is_loaded_at_once(served: ConsoleEngine, console: Any) -> None:
    app = console(location=":models")
    async with app.run_test(size=SIZE):
        await on_row(app, "aiwm-nano.0")
        await press(app, "L")
        await shows(app, "aiwm-nano.0 is up in 1.9s")
        assert [request.way for request in asked(served, memory.ModelLoad)] == [None]


async def test_models_are_unloaded_gently_or_now_kept_and_restarted(served: ConsoleEngine, console: Any) -> None:
    app = console(location=":models")
    async with app.run_test(size=SIZE):
        await on_row(app, "qwen14.0")
        await press(app, "D")
        await shows(app, "qwen14.0 goes after its 8")
        await press(app, "X")
        await shows(app, "UNLOAD qwen14.0 NOW", "8 that run end without an answer")
        await press(app, "escape")
        await wait_until(lambda: len(app.screen_stack) == 1)
        assert [request.now for request in asked(served, memory.ModelUnload)] == [False]
        await press(app, "X", *"driver", "enter")
        await shows(app, "unloads qwen14.0")
        assert (asked(served, memory.ModelUnload)[1].now, asked(served, memory.ModelUnload)[1].hold) == (True, "driver")
        await press(app, "K", "right", "tab", "enter")
        await shows(app, "is kept until 05:07:41")
        await press(app, "R")
        await shows(app, "qwen14.0 starts again")
        await on_row(app, "mistral24")
        await press(app, "D")
        await shows(app, "mistral24 is refused: nothing of it is loaded")
        assert len(asked(served, memory.ModelUnload)) == 2


async def test_a_prompt_is_put_to_a_model(served: ConsoleEngine, console: Any) -> None:
    app = console(location=":models")
    async with app.run_test(size=SIZE):
        await on_row(app, "qwen14.0")
        await press(app, "T", *"2+3", "enter")
        await shows(app, ":tasks/t-")
        (request,) = asked(served, TaskSubmit)
        assert (request.queue, request.payload) == ("demo", {"prompt": "2+3"})


async def test_a_crash_is_said_with_its_last_words(served: ConsoleEngine, console: Any) -> None:
    app = console(location=":models")
    async with app.run_test(size=SIZE):
        await on_row(app, "llama8.0")
        await shows(app, "out of GPU memory", "CUDA out of memory")


async def test_devices_have_a_table_of_their_own(served: ConsoleEngine, console: Any) -> None:
    app = console(location=":devices")
    async with app.run_test(size=SIZE):
        await on_row(app, "GPU0")
        await shows(app, "RTX 4090", "not ours: 0.4G pid 1201 Xorg (root)", "KV pages 6.0G", "71°C")


# Adapters


async def test_adapters_show_caches_versions_and_why_one_is_refused(engine: ConsoleEngine, console: Any) -> None:
    engine.samples["model.qwen14.0.misses"] = [(NOW - 180_000, 1.0), (NOW - 120_000, 5.0)]
    engine.samples["model.qwen14.0.hits"] = [(NOW - 180_000, 0.0), (NOW - 120_000, 99.0)]
    engine.samples["model.llama8.0.misses"] = [(NOW - 120_000, 5.0)]
    app = console(location=":adapters")
    async with app.run_test(size=SIZE):
        await shows(app, "CACHE qwen14.0", " 3/20 slots", "318M/500M", "hit 99.1 %", "load p95 71ms")
        await shows(app, "CACHE llama8.0", "20/20 slots", "staged 84M", "evicted 1h 11")
        await shows(app, "● pinned", "● resident", "○ absent", "✗ refused", "uses DoRA (use_d")
        await on_row(app, "invoice-de@v3")
        await shows(app, "› v3", "v4", "41.1%", "2,048", "by ana: loops on zeros", "run with it t-10001")
        await shows(app, "V sets it current: what starts then uses it; 1 running task ends with it")
        await on_row(app, "invoice-de@v4")
        await shows(app, "follow the current one extractor")
        # What happened in the processes of its base, and in no others.
        await press(app, "w", "w")
        await shows(app, "adapters that were not there, a minute", "qwen14.0", "4.0", "hits", "99.0", "evicted")
        await press(app, "z")
        await shows(app, "the last 24h")
        assert not any("llama8" in name for request in engine.requests for name in getattr(request, "names", ()))


async def test_a_version_is_set_current_with_a_reason_and_taken_back(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":adapters")
    async with app.run_test(size=SIZE):
        await on_row(app, "invoice-de@v2")
        await press(app, "V")
        await shows(app, "invoice-de@v2 IS THE CURRENT ONE", "end with it: t-10001", "stay with it: auditor")
        await press(app, *"loops", "enter")
        await shows(app, "invoice-de: invoice-de@v4 → invoice-de@v2", "Z takes it back")
        (request,) = asked(engine, about_adapters.AdapterChoose)
        assert (request.name, request.reason) == ("invoice-de@v2", "loops")


async def test_adapters_are_brought_kept_evicted_and_added(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":adapters")
    async with app.run_test(size=SIZE):
        await on_row(app, "invoice-de@v3")
        await press(app, "L")
        await shows(app, "invoice-de@v3 is in qwen14")
        await press(app, "K")
        await shows(app, "invoice-de@v3 is in qwen14 and stays")
        assert [request.keep for request in asked(engine, about_adapters.AdapterPrefetch)] == [False, True]
        await press(app, "X")
        await shows(app, "invoice-de@v3 stays: it is in use")
        await press(app, "N")
        await shows(app, "ADD A VERSION", "invoice-de@v3")
        await press(app, *"/runs/a-32", "enter")
        await shows(app, "registered invoice-de@v4")
        (request,) = asked(engine, about_adapters.AdapterAdd)
        assert (request.path, request.name, request.parent) == ("/runs/a-32", "invoice-de", "invoice-de@v3")
        assert (request.copy, request.current) == (False, False)
        await on_row(app, "legal-xl@v1")
        await press(app, "V")
        await shows(app, "legal-xl@v1 is refused: uses DoRA")
        await on_row(app, "invoice-de@v2")
        await press(app, "X")
        await shows(app, "invoice-de@v2 is in no process")


# Comparing


async def test_a_tasks_prompt_is_compared_and_a_slider_sets_the_weight(engine: ConsoleEngine, console: Any) -> None:
    engine.change("tasks", "t-10001", adapter="invoice-de@v3")
    app = console(location=":tasks/t-10001")
    async with app.run_test(size=(120, 40)):
        await shows(app, "t-10001", "Who sent this invoice?")
        await press(app, "C")
        await shows(app, ":compare/t-10001", "the prompt as it was read", "Extract the net sum.", "seed 7")
        await shows(
            app, "base", "net 1240.50 of Müller", "invoice-de@v3 × 1", "net 0000 of Müller", "1 of 4 words differ"
        )
        await shows(app, "1.00 × invoice-de@v3", "1 of 3")
        (first,) = asked(engine, TaskCompare)
        assert (first.adapters, first.seed) == (("base", "invoice-de@v3:1"), None)
        await press(app, *["right"] * 5)
        await shows(app, "1.50 × invoice-de@v3", "net 0000 of zeros", "2 of 4 words differ")
        second = asked(engine, TaskCompare)[-1]
        # Base stays as it was, and all that follows is drawn with its seed.
        assert (second.adapters, second.seed) == (("invoice-de@v3:1.5",), 7)
        await press(app, *["left"] * 20)
        await shows(app, "0.00 × invoice-de@v3", "the same words")
        await shows(app, "words that differ from base, %, by weight")
        await press(app, "tab")
        await shows(app, "0.00 × invoice-de@v4", "2 of 3")
        before = len(asked(engine, TaskCompare))
        await press(app, "tab", "tab")
        await shows(app, "0.00 × invoice-de@v3", "the same words")
        # What was answered is not asked again; only the adapter that was passed over may have been.
        assert len(asked(engine, TaskCompare)) <= before + 1


async def test_an_adapter_is_compared_by_a_prompt_that_is_typed(engine: ConsoleEngine, console: Any) -> None:
    app = console(location=":adapters")
    async with app.run_test(size=(120, 30)):
        await on_row(app, "invoice-de@v3")
        await press(app, "C")
        await shows(app, ":compare/invoice-de@v3", "T types a prompt", "1.00 × invoice-de@v3", "2 of 3")
        assert asked(engine, AdapterCompare) == []
        await press(app, "T", *"hello", "enter")
        await shows(app, "hello", "net 1240.50 of Müller", "net 0000 of Müller")
        await press(app, "right")
        await shows(app, "1.10 × invoice-de@v3", "net 0000 of zeros")
        assert [(it.names, it.prompt, it.weights, it.seed) for it in asked(engine, AdapterCompare)] == [
            (("base", "invoice-de@v3:1"), "hello", (), None),
            (("invoice-de@v3:1.1",), "hello", (1.0,), 7),
        ]
        # An answer that is still on its way belongs to the prompt before, and must not stand under the next one.
        page = app.screen.query_one(ComparePage)
        page._asking = late = asyncio.create_task(asyncio.Event().wait())
        page.ask_about("another")
        await shows(app, "another", "net 1240.50 of Müller")
        assert late.cancelled()
        engine.refuse[AdapterCompare] = AiwmError(Code.model_unavailable, "no room for \x1b[31mqwen14")
        await press(app, "right")
        await shows(app, "no room for ␛[31mqwen14")


@pytest.mark.parametrize("size", [(80, 24), (160, 48), (200, 50)])
@pytest.mark.parametrize("location", [":models", ":adapters", ":devices", ":compare/invoice-de@v3"])
async def test_screens_fit_their_terminal(
    served: ConsoleEngine, console: Any, location: str, size: tuple[int, int]
) -> None:
    app = console(location=location)
    async with app.run_test(size=size):
        await shows(app, location, "all keys", "T types" if "compare" in location else "›")
        assert all(len(line) <= size[0] for line in text_of(app).splitlines())

"""Adapters in the control room: versions are fixed when an attempt begins, changes that can be taken back, variants, side by side."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from aiwm_tui.live.comparing import MOST_WORDS, Span, difference, lines_of
from engine.contract.definitions import AdapterUse, WorkerDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.operations import OperationShow, OperationUndo
from engine.contract.requests.tasks import TaskShow
from engine.contract.states import Durability
from engine.control.adapters.changes import Pinning
from engine.control.adapters.ended import Sum, summed
from engine.control.adapters.variants import MOST, variants
from engine.control.operation_log import Operation
from engine.control.pinning import Pins, asked
from engine.inference.adapters.traffic import Traffic, percentile
from engine.inference.protocol import CachedAdapter, CacheNote
from engine.store.adapters import Ran
from tests.support.manager import House, Model
from tests.support.waiting import until

TONE = WorkerDefinition(name="w", model="m", adapters=(AdapterUse(name="tone", weight=0.5),))


async def test_an_attempt_ends_with_the_versions_that_it_began_with(tmp_path: Path) -> None:
    async with House(tmp_path / "home", TONE, pool=1) as house:
        house.model.exact = {"tone": "tone@v1"}
        house.model.hold = asyncio.Event()
        task = await house.submit("w", prompt="hello")
        await until(lambda: house.model.running == 1)
        await house.store.journal.write((), Durability.os)
        row = (await house.call(TaskShow(id=task))).row
        assert (row.state, row.adapter) == ("processing", "tone@v1")
        assert house.manager.attempts.using() == {"tone@v1": [task]}
        house.model.exact = {"tone": "tone@v2"}
        house.model.hold.set()
        result: Any = (await house.outcome(task)).result
        assert result["adapters"] == [{"name": "tone@v1", "digest": "d", "weight": 0.5}]
        assert house.manager.attempts.using() == {}
        after = await house.submit("w", prompt="hello")
        result = (await house.outcome(after)).result
        assert [it["name"] for it in result["adapters"]] == ["tone@v2"]
        named = await house.submit("w", prompt="hello", adapters=[{"name": "tone@v1"}])
        await house.outcome(named)
        assert [use.name for use in house.model.asked[-1].adapters] == ["tone@v1"]
        plain = await house.submit("w", prompt="hello", adapters=[])
        await house.outcome(plain)
        assert (await house.call(TaskShow(id=plain))).row.adapter in (None, "")


def test_several_calls_of_one_attempt_use_the_same_versions() -> None:
    known = {"a": "a@v1"}
    pins = Pins(lambda name: known.get(name, name))
    assert [use.name for use in pins((AdapterUse(name="a"), AdapterUse(name="b")))] == ["a@v1", "b"]
    known["a"] = "a@v2"
    assert [use.name for use in pins((AdapterUse(name="a"),))] == ["a@v1"]
    assert pins.text == "a@v1,b"
    assert Pins(str).text is None


@pytest.mark.parametrize(
    ("payload", "names"),
    [
        (b'{"prompt": "x"}', ["tone"]),
        (b'{"prompt": "x", "adapters": null}', ["tone"]),
        (b'{"prompt": "x", "adapters": []}', []),
        (b'{"prompt": "x", "adapters": [{"name": "a@v2", "weight": 2}]}', ["a@v2"]),
        (b'{"prompt": "the \\"adapters\\" are"}', ["tone"]),
        (b'{"adapters": "wrong"}', []),
    ],
)
def test_the_adapters_that_a_task_asks_for(payload: bytes, names: list[str]) -> None:
    assert [use.name for use in asked(TONE, payload)] == names


class Switch:
    """Something that can be set and set back."""

    def __init__(self) -> None:
        self.value = "a"
        self.did: list[str] = []

    def before(self, settings: dict[str, Any]) -> dict[str, Any]:
        if settings["to"] == "wrong":
            raise AiwmError(Code.bad_request, "no such value")
        return {"was": self.value}

    async def do(self, settings: dict[str, Any], by: str) -> str:
        self.did.append(by)
        self.value = settings["to"]
        return f"set to {self.value}"

    async def undo(self, settings: dict[str, Any], before: dict[str, Any], by: str) -> str:
        if self.value != settings["to"]:
            raise AiwmError(Code.conflict, "set again since")
        self.value = before["was"]
        return f"back to {self.value}"


async def test_a_change_of_something_else_than_tasks_can_be_taken_back(tmp_path: Path) -> None:
    async with House(tmp_path / "home", TONE, pool=1) as house:
        undertakings, switch = house.manager.desk.undertakings, Switch()
        undertakings.reversible["test.switch"] = switch
        done, _ = await undertakings.begin("test.switch", "ana", settings={"to": "b"}, reason="why not")
        assert (switch.value, done.state, done.text, done.before) == ("b", "done", "set to b", {"was": "a"})
        await house.call(OperationUndo(id=done.id))
        assert switch.value == "a"
        with pytest.raises(AiwmError, match="was undone already"):
            await house.call(OperationUndo(id=done.id))
        with pytest.raises(AiwmError, match="no such value"):
            await undertakings.begin("test.switch", "ana", settings={"to": "wrong"}, delay_ms=1000)
        first, _ = await undertakings.begin("test.switch", "ana", settings={"to": "b"})
        await undertakings.begin("test.switch", "bob", settings={"to": "c"})
        with pytest.raises(AiwmError, match="set again since"):
            await house.call(OperationUndo(id=first.id))
        assert (await house.call(OperationShow(id=first.id))).row.state == "done"


class AnyBook:
    """Every adapter is there and whole."""

    problem = None

    def get(self, _: str) -> AnyBook:
        return self


@pytest.mark.parametrize("later", [{"name": "style"}, {"name": "rules", "weight": 0.5}])
async def test_what_others_pinned_since_is_not_taken_back_with_it(tmp_path: Path, later: dict[str, Any]) -> None:
    async with House(tmp_path / "home", TONE, pool=1) as house:
        book: Any = AnyBook()
        pinning = Pinning(book, house.manager.catalogue, house.manager.library.definer)

        async def pin(settings: dict[str, Any]) -> dict[str, Any]:
            before = pinning.before(settings)
            await pinning.do(settings, "ana")
            return before

        def used() -> tuple[AdapterUse, ...]:
            return house.manager.catalogue.worker("w").adapters

        first, second = {"definition": "w", "name": "rules"}, {"definition": "w", **later}
        before_first, before_second = await pin(first), await pin(second)
        since = used()
        with pytest.raises(AiwmError, match="was changed since"):
            await pinning.undo(first, before_first, "ana")
        assert used() == since
        await pinning.undo(second, before_second, "ana")
        await pinning.undo(first, before_first, "ana")
        assert used() == TONE.adapters


async def test_what_was_being_done_when_the_engine_ended_is_done_by_the_next(tmp_path: Path) -> None:
    async with House(tmp_path / "home", TONE, pool=1) as house:
        undertakings, switch = house.manager.desk.undertakings, Switch()
        log = house.manager.desk.operation_log
        await log.write(
            Operation(
                id="op-9", request="test.switch", state="running", by="ana", at_ms=1, settings={"to": "b"},
                before={"was": "before the crash"},
            )
        )  # fmt: skip
        undertakings.reversible["test.switch"] = switch
        undertakings.start()
        await until(lambda: log.find("op-9").state == "done" and not undertakings._claimed)
        assert (switch.value, switch.did) == ("b", ["ana"])
        await house.call(OperationUndo(id="op-9"))
        assert switch.value == "before the crash"


async def test_the_prompt_that_was_read_is_kept_unless_it_is_too_long(tmp_path: Path) -> None:
    async with House(tmp_path / "home", TONE, pool=1, model=Model()) as house:
        house.model.prompt = "<user>hello<assistant>"
        task = await house.submit("w", prompt="hello")
        await house.outcome(task)
        seq = int(house.store.readers._connection.execute("SELECT max(seq) FROM tasks").fetchone()[0])
        assert house.store.readers.prompt(seq) == "<user>hello<assistant>"
        house.model.prompt = "x" * 65_537
        await house.outcome(await house.submit("w", prompt="hello"))
        assert house.store.readers.prompt(seq + 1) is None


def test_variants_as_people_write_them() -> None:
    found = variants(("base", "a@v3", "a@v3:0.5", "a + b@v2:2", "base"), (), "adapters")
    assert [it.label for it in found] == ["base", "a@v3", "a@v3 × 0.5", "a + b@v2 × 2"]
    assert found[3].adapters == (AdapterUse(name="a"), AdapterUse(name="b@v2", weight=2.0))
    weighted = variants(("base", "a:2"), (0, 0.5, 1), "adapters")
    assert [(it.label, [use.weight for use in it.adapters]) for it in weighted] == [
        ("base", []),
        ("a × 0", [0.0]),
        ("a", [1.0]),
        ("a × 2", [2.0]),
    ]
    for text in ("../a", "a@v0", "a:x", "a:nan", "a:101", "a+", ""):
        with pytest.raises(AiwmError) as caught:
            variants((text,), (), "names")
        assert (caught.value.code, caught.value.info.field) == (Code.bad_request, "names")
    with pytest.raises(AiwmError, match="between -100 and 100"):
        variants(("a",), (0.5, 101), "names")
    for texts in ((), tuple(f"a@v{n}" for n in range(1, MOST + 2))):
        with pytest.raises(AiwmError):
            variants(texts, (), "names")


def test_how_tasks_ended_is_summed_by_each_adapter() -> None:
    found = summed([Ran("a@v1", 4, 3, 1, 20.0), Ran("a@v1,b@v2", 1, 1, 0, 99.0)])
    assert found == {"a@v1": Sum(5, 4, 20.0), "b@v2": Sum(1, 1, 99.0)}
    assert (found["a@v1"].ok, Sum().ok) == (0.8, None)


def _cached(digest: str, **more: Any) -> CachedAdapter:
    return CachedAdapter(digest=digest, name=digest, state="resident", size_bytes=1, **more)


def test_traffic_is_counted_by_the_minute_and_forgotten_after_an_hour() -> None:
    traffic, minute = Traffic(), 60_000

    def look(at_min: int, **more: Any) -> None:
        traffic.look({"p.0": CacheNote(adapters=(_cached("d", **more),))}, at_min * minute)

    look(100, hits=1, misses=1, load_ms=40.0)
    look(100, hits=1, misses=1, load_ms=40.0)
    look(101, hits=5, misses=1, load_ms=40.0)
    look(102, hits=5, misses=2, evictions=1, load_ms=60.0)
    sums = traffic.adapter("d")
    assert (sums.hits, sums.misses, sums.evictions, sums.uses, sums.loads) == (5, 2, 1, 7, [40.0, 60.0])
    assert traffic.misses_by_minute("p.0", 102 * minute)[-4:] == (0, 1, 0, 1)
    # The process was started again: it counts from nothing.
    look(103, hits=2, misses=1, load_ms=50.0)
    assert traffic.adapter("d").hits == 7
    look(162, hits=2, misses=1, load_ms=50.0)
    assert traffic.adapter("d").hits == 2
    assert traffic.process("other").uses == 0
    assert (percentile([3, 1, 2], 0.5), percentile([], 0.5)) == (2, None)


def test_a_rows_traffic_costs_nothing_for_other_adapters() -> None:
    traffic, names = Traffic(), [f"d{number}" for number in range(1_000)]
    for minute in range(40):
        traffic.look({"p.0": CacheNote(adapters=tuple(_cached(it, hits=minute + 1) for it in names))}, minute * 60_000)
    began = time.process_time()
    assert [traffic.adapter(it).hits for it in names] == [40] * len(names)
    assert time.process_time() - began < 0.5


def test_words_that_differ_are_marked_and_wrapped() -> None:
    assert difference("one two three", "one 2 three") == (1, 3)
    assert difference("same", "same") == (0, 1)
    (line,) = lines_of("one two three", "one 2 three", 40)
    assert [span for span in line if span.differs] == [Span("2", True)]
    assert ["".join(span.text for span in line).rstrip() for line in lines_of("", "aaa bbb ccc", 7)] == [
        "aaa bbb",
        "ccc",
    ]
    assert ["".join(span.text for span in line) for line in lines_of("", "abcdefghij", 4)] == ["abcd", "efgh", "ij"]
    assert lines_of("", "", 10) == [[]]
    hostile = "".join(span.text for line in lines_of("", "a\x1b[2Jb", 40) for span in line)
    assert "\x1b" not in hostile
    long = "word " * MOST_WORDS
    assert difference(long, long + "more")[0] == MOST_WORDS + 1

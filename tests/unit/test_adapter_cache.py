"""The adapter cache of a model process: what comes, what leaves, what is counted; and under any order of requests, cancels, prefetches
and loads, that nothing in use leaves, nothing is exceeded and nobody is forgotten."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.contract.errors import AiwmError
from engine.inference.adapter_cache import REMEMBERED, AdapterCache
from engine.inference.job import Job
from engine.inference.protocol import AdapterNote, CachedAdapter, CacheNote, DoneNote, EvictResult, FailedNote, Note
from engine.inference.stepper import Stepper
from tests.support.scripted_backend import ScriptedBackend, ScriptedLoader, adapter, prepared


class House:
    """A stepper that is driven by hand, and what it told."""

    def __init__(self, slots: int = 4, count: int = 3, size: int = 100, staged: int = 20, **sizes: int) -> None:
        self.notes: list[Note] = []
        self.loader = ScriptedLoader()
        self.backend = ScriptedBackend(slots, sizes)
        self.stepper = Stepper(self.notes.extend, self.loader)
        self.bounds = (count, size, staged)
        self.serve()
        self.answers: list[Any] = []

    def serve(self) -> None:
        self.stepper.serve(self.backend, self.backend.slots, AdapterCache(*self.bounds))

    @property
    def cache(self) -> CacheNote:
        return self.stepper.cache.note()

    def entry(self, digest: str) -> CachedAdapter:
        (entry,) = (entry for entry in self.cache.adapters if entry.digest == digest)
        return entry

    def submit(self, name: str, *digests: str, tokens: int = 1) -> None:
        self.stepper.submit(Job(prepared(name, *digests, tokens=tokens), time.monotonic(), None))

    def prefetch(self, *digests: str, **how: bool) -> None:
        self.stepper.loaded()[1].prefetch([adapter(digest) for digest in digests], self.answers.append, **how)

    def evict(self, *digests: str) -> EvictResult:
        return self.stepper.loaded()[1].evict(digests)

    def turn(self) -> None:
        self.stepper.turn(sleep=False)

    def run(self, *digests: str, name: str = "r") -> None:
        """One request from its arrival to its end."""
        self.submit(name, *digests)
        self.settle()

    def settle(self) -> None:
        """Until nothing is under way."""
        for _ in range(1000):
            self.turn()
            self.loader.finish()
            if not (self.loader.busy or self.stepper.waiting or self.backend.running):
                return
        raise AssertionError("it never came to rest")

    def told(self, event: str) -> list[tuple[str, str]]:
        return [(n.digest, n.cause) for n in self.notes if isinstance(n, AdapterNote) and n.event == event]

    def failed(self, name: str) -> str:
        (note,) = (note for note in self.notes if isinstance(note, FailedNote) and note.id == name)
        return note.error.message

    def done(self) -> list[str]:
        return [note.id for note in self.notes if isinstance(note, DoneNote)]


def test_the_least_recently_used_leaves_first() -> None:
    house = House()
    for digest in "abcabd":
        house.run(digest)
    assert house.told("evicted") == [("c", "room")]
    assert {e.digest: e.state for e in house.cache.adapters} == dict.fromkeys("abd", "resident") | {"c": "absent"}
    assert (house.cache.hits, house.cache.misses, house.cache.evictions, house.cache.loads) == (2, 4, 1, 4)
    assert (house.entry("a").hits, house.entry("a").misses, house.entry("c").evictions) == (1, 1, 1)


def test_bytes_bound_the_cache_as_the_count_does() -> None:
    house = House(count=10, size=100, a=60, b=40, c=50)
    for digest in "abc":
        house.run(digest)
    assert house.told("evicted") == [("a", "room")]
    assert (house.cache.resident_bytes, house.cache.max_bytes) == (90, 100)
    house.run("a")
    assert house.told("evicted")[1:] == [("b", "room"), ("c", "room")]


def test_an_adapter_in_use_stays_and_who_needs_its_room_waits() -> None:
    house = House(count=1)
    house.submit("long", "a", tokens=5)
    house.submit("next", "b")
    house.submit("base")  # needs no room, so it need not wait
    house.turn()
    house.loader.finish_all()
    house.turn()
    house.loader.finish_all()
    house.turn()
    assert house.entry("a").state == "pinned"
    assert house.told("evicted") == []
    house.settle()
    assert house.done() == ["base", "long", "next"]
    assert house.told("evicted") == [("a", "room")]


def test_one_adapter_is_read_once_for_all_who_wait_for_it() -> None:
    house = House()
    for name in "xyz":
        house.submit(name, "a", tokens=3)
    house.settle()
    assert (house.cache.loads, house.cache.misses, house.cache.hits) == (1, 3, 0)


def test_a_request_that_loads_lets_others_by() -> None:
    house = House()
    house.submit("cold", "a", tokens=2)
    house.submit("warm", tokens=3)
    house.turn()
    assert house.backend.order == ["warm"]
    house.settle()
    assert sorted(house.done()) == ["cold", "warm"]


def test_who_loads_keeps_its_slot() -> None:
    house = House(slots=1)
    house.submit("cold", "a")
    house.submit("warm")
    house.turn()
    assert house.backend.order == []
    house.settle()
    assert house.done() == ["cold", "warm"]


def test_what_cannot_be_loaded_fails_who_asks_for_it_and_nobody_else() -> None:
    house = House(big=101)
    house.backend.unreadable.add("bad")
    house.backend.unloadable.add("hot")
    for name in ("bad", "hot", "big"):
        house.submit(name, "a", name)
    house.submit("fine", "a")
    house.settle()
    assert "adapter /adapters/bad has no readable" in house.failed("bad")
    assert house.failed("hot") == "adapter name-hot could not be loaded: RuntimeError: the device is on fire"
    assert house.failed("big").startswith("adapter name-big takes 101 bytes")
    assert house.done() == ["fine"]
    assert sorted(house.told("refused")) == [("bad", "request"), ("big", "request"), ("hot", "request")]
    assert house.cache.refusals == 3
    assert house.cache.resident_bytes == 10
    house.backend.unreadable.clear()  # its owner has repaired it
    house.run("bad", name="again")
    assert "again" in house.done()


def test_what_could_not_be_loaded_takes_no_room() -> None:
    house = House(count=3, size=30)
    house.backend.unloadable.add("hot")
    for number in range(5):
        house.run("hot", name=f"failed{number}")
    for digest in "abc":
        house.run(digest)
    assert (house.cache.refusals, house.cache.evictions, house.cache.resident_bytes) == (5, 0, 30)


def test_adapters_that_never_fit_together_are_refused() -> None:
    house = House(count=2)
    house.submit("three", "a", "b", "c")
    house.settle()
    assert house.failed("three").startswith("a request uses 3 adapters; the adapter cache holds 2")
    house = House(count=5, size=100, a=60, b=60)
    house.submit("two", "a", "b")
    house.settle()
    assert "2 adapters" in house.failed("two")


# -- prefetch, keep, evict -------------------------------------------------------------------------------------------------


def test_a_prefetched_adapter_is_a_hit_and_counted_as_owed_to_that() -> None:
    house = House()
    house.prefetch("a")
    house.settle()
    assert house.answers[0].ready == ("a",)
    house.run("a")
    house.run("a")
    assert (house.cache.hits, house.cache.prefetch_hits, house.cache.misses, house.cache.wasted) == (2, 1, 0, 0)
    assert house.told("loaded") == [("a", "prefetch")]


def test_a_prefetch_takes_free_room_only_and_else_waits_in_the_hosts_memory() -> None:
    house = House(count=2, staged=20)
    house.run("a")
    house.run("b")
    house.prefetch("c", "d")
    house.settle()
    assert (house.answers[0].ready, house.answers[0].staged) == ((), ("c", "d"))
    assert house.told("evicted") == []
    house.prefetch("e")  # the memory for staged ones is full: the oldest of them goes
    house.settle()
    assert house.answers[1].staged == ("e",)
    assert (house.entry("c").state, house.cache.staged_bytes, house.cache.wasted) == ("absent", 20, 1)
    house.run("d")
    assert house.cache.staged_bytes == 10
    assert house.told("evicted") == [("a", "room")]


def test_the_next_in_line_may_push_out_what_nobody_waits_for() -> None:
    house = House(slots=1, count=2)
    house.run("a")
    house.run("b")
    house.submit("running", "b", tokens=50)
    house.turn()
    house.submit("waiting", "a")
    house.prefetch("c", next=True)
    house.turn()
    house.loader.finish_all()
    house.turn()
    assert house.answers[0].staged == ("c",)  # b runs, a is waited for
    assert house.told("evicted") == []
    assert house.stepper.cancel("waiting")
    house.prefetch("c", next=True)
    house.loader.finish_all()
    assert house.answers[1].ready == ("c",)
    assert house.told("evicted") == [("a", "room")]


def test_a_wasted_prefetch_is_counted() -> None:
    house = House(count=1)
    house.prefetch("a")
    house.settle()
    house.run("b")
    assert (house.cache.wasted, house.entry("a").evictions) == (1, 1)


def test_a_request_overtakes_prefetches_that_have_not_begun() -> None:
    house = House(count=9)
    house.prefetch("a", "b", "c")
    house.loader.begin()
    house.submit("r", "c")
    house.turn()
    house.loader.finish()  # a was begun
    house.loader.finish()
    assert house.entry("c").state in ("staged", "uploading")
    assert house.entry("b").state == "reading"


def test_what_is_kept_stays_until_it_is_evicted() -> None:
    house = House(count=2)
    house.prefetch("a", keep=True)
    house.settle()
    for digest in "bcd":
        house.run(digest)
    assert house.entry("a").state == "resident"
    assert house.entry("a").kept
    with pytest.raises(AiwmError, match="2 adapters would be kept; the adapter cache holds 2"):
        house.prefetch("b", keep=True)
    house.submit("both", "b", "c")
    house.settle()
    assert "beside 1 that are kept" in house.failed("both")
    assert house.evict("a", "nothing").evicted == ("a",)
    assert ("a", "asked") in house.told("evicted")
    house.submit("again", "b", "c")
    house.settle()
    assert "again" in house.done()


def test_what_runs_or_is_waited_for_is_not_evicted_when_asked() -> None:
    house = House(slots=1)
    house.run("a")
    house.run("b")
    house.submit("running", "a", tokens=9)
    house.submit("waiting", "b")
    house.turn()
    result = house.evict("a", "b")
    assert (result.evicted, result.in_use) == ((), ("a", "b"))
    house.settle()
    assert house.evict("a", "b").evicted == ("a", "b")
    assert house.backend.attached == set()


def test_a_refused_prefetch_says_why_and_the_others_come() -> None:
    house = House()
    house.backend.unreadable.add("bad")
    house.prefetch("bad", "a")
    house.settle()
    assert isinstance(house.answers[0], AiwmError)
    assert house.entry("a").state == "resident"


def test_a_cancelled_request_costs_no_reading() -> None:
    house = House()
    house.submit("other", "x")
    house.submit("gone", "a")
    house.turn()
    house.loader.begin()
    assert house.stepper.cancel("gone")
    assert "a" not in house.loader.urgent
    assert house.entry("a").state == "absent"
    house.settle()
    assert house.done() == ["gone", "other"]


def test_an_unload_in_the_middle_answers_everybody() -> None:
    house = House()
    house.submit("cold", "a")
    house.prefetch("b")
    house.turn()
    house.loader.begin()
    old = house.loader.begun
    house.stepper.unload()
    assert old is not None
    old()  # the thread was just done with it
    assert house.failed("cold") == "the model was unloaded"
    assert house.answers[0].info.code == "model_unavailable"
    house.serve()
    house.run("a", name="new")
    assert house.done() == ["new"]


def test_counts_of_what_left_long_ago_are_forgotten() -> None:
    house = House(count=2)
    for number in range(REMEMBERED + 10):
        house.run(f"d{number}")
    assert len(house.cache.adapters) == REMEMBERED + 2
    assert house.cache.evictions == REMEMBERED + 8


# -- any order of events ---------------------------------------------------------------------------------------------------

DIGESTS = st.sampled_from("abcdefgh")
SIZES = {"a": 10, "b": 20, "c": 30, "d": 40, "e": 120, "f": 60, "g": 10, "h": 10}  # e can never fit
SETS = st.lists(DIGESTS, max_size=3)


class AnyOrder(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.house = House(3, 4, 100, 50, **SIZES)
        self.house.backend.unreadable.add("g")
        self.house.backend.unloadable.add("h")
        self.names: list[str] = []
        self.asked = 0

    @rule(digests=SETS, tokens=st.integers(1, 4))
    def submit(self, digests: list[str], tokens: int) -> None:
        name = f"r{len(self.names)}"
        self.names.append(name)
        self.house.submit(name, *digests, tokens=tokens)

    @precondition(lambda self: self.names)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.house.stepper.cancel(data.draw(st.sampled_from(self.names[-5:])))

    @rule(digests=SETS, how=st.sampled_from(["", "next", "keep"]))
    def prefetch(self, digests: list[str], how: str) -> None:
        with contextlib.suppress(AiwmError) if how == "keep" else contextlib.nullcontext():
            self.house.prefetch(*digests, **({how: True} if how else {}))
            self.asked += 1

    @rule(digests=SETS)
    def evict(self, digests: list[str]) -> None:
        before = self.house.backend.used()
        result = self.house.evict(*digests)
        assert not before & set(result.evicted)

    @rule()
    def begin(self) -> None:
        self.house.loader.begin()

    @rule()
    def finish(self) -> None:
        self.house.loader.finish()

    @rule()
    def turn(self) -> None:
        self.house.turn()

    @precondition(lambda self: len(self.names) % 7 == 6)
    @rule()
    def reload(self) -> None:
        self.house.stepper.unload()
        self.house.backend.admitted_adapters = 0
        self.house.serve()

    @invariant()
    def bounds_hold(self) -> None:
        note = self.house.cache
        taken = [entry for entry in note.adapters if entry.state in ("uploading", "resident", "pinned")]
        assert len(taken) <= 4
        assert sum(entry.size_bytes for entry in taken) == note.resident_bytes <= 100
        awaited = self.house.stepper.awaited() | self.house.stepper.loaded()[1].pending()
        staged = [entry for entry in note.adapters if entry.state == "staged"]
        assert sum(entry.size_bytes for entry in staged) == note.staged_bytes
        assert sum(entry.size_bytes for entry in staged if entry.digest not in awaited) <= 50

    @invariant()
    def what_is_said_is_so(self) -> None:
        house, note = self.house, self.house.cache
        states = {entry.digest: entry for entry in note.adapters}
        assert {d for d, e in states.items() if e.state in ("resident", "pinned")} == house.backend.attached
        assert {d for d, e in states.items() if e.state == "pinned"} == house.backend.used()
        for digest, entry in states.items():
            users = [r for r, _ in house.backend.running.values() if digest in {a.digest for a in r.request.adapters}]
            assert entry.users == len(users)
        assert note.hits + note.misses == house.backend.admitted_adapters
        assert note.prefetch_hits <= note.hits
        assert note.loads - note.evictions == len(house.backend.attached)
        if not house.loader.busy:
            assert not [d for d, e in states.items() if e.state in ("reading", "uploading")]

    def teardown(self) -> None:
        for kept in self.house.cache.adapters:
            if kept.kept:
                self.house.stepper.cache.keep(kept.digest, False)
        self.house.settle()
        ends = [note.id for note in self.house.notes if isinstance(note, DoneNote | FailedNote)]
        assert sorted(ends) == sorted(self.names)  # each ended, and once
        assert len(self.house.answers) == self.asked
        assert not self.house.backend.running
        assert not self.house.stepper.loaded()[1].pending()
        self.bounds_hold()
        self.what_is_said_is_so()


AnyOrder.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase

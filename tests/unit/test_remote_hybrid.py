"""Hybrid models: which model of a route answers, why the others did not, and what is never tried twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from engine.clock import SystemClock
from engine.contract.definitions import AdapterUse, Backend, ModelDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.records.models import ModelRow
from engine.inference.remote.hybrid import HybridModel
from engine.inference.served import Served
from engine.ports import Delta, GenerateRequest, Generation, Message, Outcome, ReplicaState, Reservation
from tests.support.loopback import Loopback, Play, loopback
from tests.support.models import Events
from tests.support.remote import Far
from tests.support.waiting import until


class Near:
    """A model of this machine: it says `words`, or fails with `fails` after `after` of them. `held` ones wait for `go`."""

    def __init__(self, *words: str, fails: AiwmError | None = None, after: int = 0, held: bool = False) -> None:
        self.words = words
        self.fails = fails
        self.after = after
        self.go = asyncio.Event()
        if not held:
            self.go.set()
        self.asked: list[tuple[GenerateRequest, Reservation]] = []
        self.slots = 0
        self.taken = 0
        self.cancelled = 0
        self.deaf = False
        self.context: int | None = 512

    async def generate(self, request: GenerateRequest, reservation: Reservation) -> Generation:
        self.asked.append((request, reservation))
        return _Said(self)

    def rows(self) -> list[ModelRow]:
        names = ("weights_bytes", "kv_bytes", "kv_used_bytes", "rss_bytes", "adapters", "restarts", "since_ms")
        fields: dict[str, Any] = {"tokens_per_s": 0.0, "steps_per_s": 0.0, "note": "", **dict.fromkeys(names, 0)}
        fields |= {"running": min(self.taken, self.slots), "waiting": max(0, self.taken - self.slots)}
        fields |= {"id": "near.0", "model": "near", "state": "ready", "backend": "reference", "where": "CPU"}
        return [ModelRow(pid=1, slots=self.slots, **fields)]

    def announce(self) -> None:
        pass

    def tokens_per_second(self) -> float:
        return 0.0

    async def close(self, grace: float = 0.0) -> None:
        pass


class _Said:
    def __init__(self, near: Near) -> None:
        self._near = near
        self._stop = asyncio.Event()
        self._said: list[str] = []

    async def __aiter__(self) -> AsyncIterator[Delta]:
        near = self._near
        for number, word in enumerate(near.words):
            if near.fails is not None and number == near.after:
                raise near.fails
            await near.go.wait()
            self._said.append(word)
            yield Delta(word, 1)
        if near.fails is not None:
            raise near.fails

    @property
    def outcome(self) -> Outcome:
        return Outcome(
            reason="stop",
            text="".join(self._said),
            tokens_in=7,
            tokens_out=len(self._said),
            first_token_ms=1.0,
            total_ms=2.0,
            process="near.0",
        )

    async def cancel(self) -> None:
        self._near.cancelled += 1
        if self._near.deaf:
            raise AiwmError(Code.model_crashed, "it cannot be told")


class Route:
    """A hybrid model over these members, and what it held and told."""

    def __init__(self, policy: str = "", wait: float = 20.0, **members: Served) -> None:
        self.members = members
        self.events = Events()
        self.told: list[ReplicaState] = []
        self.holding: list[str] = []
        self.held: list[tuple[str, tuple[str, ...]]] = []
        self.route = tuple(members)
        self.wait = wait
        self.policy = policy

    def model(self, **definition: Any) -> HybridModel:
        fields = {"name": "auto", "backend": Backend.hybrid, "route": self.route, "policy": self.policy, **definition}
        return HybridModel(
            ModelDefinition(**fields),
            self.wait,
            member=self._member,
            held=self._hold,
            clock=SystemClock(),
            events=self.events,
            publish=self.told.append,
            changed=lambda: None,
        )

    async def start(self, **request: Any) -> Generation:
        asked = GenerateRequest(messages=(Message(role="user", content="hello"),), **request)
        return await self.model().generate(asked, Reservation(task="t-10001", attempt=1, definition="w", model="auto"))

    async def ask(self, **request: Any) -> Outcome:
        generation = await self.start(**request)
        text = "".join([delta.text async for delta in generation])
        assert text == generation.outcome.text
        return generation.outcome

    async def trouble(self, **request: Any) -> AiwmError:
        with pytest.raises(AiwmError) as raised:
            await self.ask(**request)
        return raised.value

    def _member(self, name: str) -> Served:
        if name not in self.members:
            raise AiwmError(Code.model_not_found, f'model "{name}" is not here')
        return self.members[name]

    @contextmanager
    def _hold(self, model: str, adapters: tuple[str, ...]) -> Iterator[str | None]:
        self.held.append((model, adapters))
        self.holding.append(model)
        try:
            yield f"{model}.0"
        finally:
            self.holding.remove(model)


CRASH = AiwmError(Code.model_crashed, "it crashed", retryable=True)


@pytest.fixture
def server() -> Iterator[Loopback]:
    with loopback() as running:
        yield running


async def test_the_first_that_can_answers() -> None:
    near, far = Near("a", "b"), Near("c")
    route = Route(near=near, far=far)
    outcome = await route.ask(adapters=(AdapterUse(name="de"),))
    assert (outcome.text, outcome.route, outcome.process) == ("ab", ("near: answered",), "near.0")
    ((_, reservation),) = near.asked
    assert (reservation.model, reservation.replica, reservation.task) == ("near", "near.0", "t-10001")
    assert (route.held, route.holding) == ([("near", ("de",))], [])
    assert (far.asked, route.events.types) == ([], [])


@pytest.mark.parametrize(
    "fails",
    [
        CRASH,
        AiwmError(Code.prompt_too_long, "1,000 tokens"),
        AiwmError(Code.key_not_found, "no key"),
        AiwmError(Code.adapter_unsupported, "no de"),
        AiwmError(Code.remote_overloaded, "busy", retryable=True, retry_after_ms=9),
        AiwmError(Code.remote_failed, "401"),
        AiwmError(Code.schema_unsupported, "oneOf"),
    ],
)
async def test_it_goes_on_when_one_cannot(fails: AiwmError) -> None:
    route = Route(near=Near(fails=fails), far=Near("yes"))
    outcome = await route.ask()
    assert outcome.text == "yes"
    assert outcome.route == (f"near: {fails.code}: {fails.info.message}", "far: answered")
    assert route.events.types == ["model.rerouted"]
    assert fails.info.message in route.events.seen[0][1]


async def test_a_model_that_is_not_there() -> None:
    route = Route(far=Near("yes"))
    route.route = ("gone", "far")
    assert (await route.ask()).route[0] == 'gone: model_not_found: model "gone" is not here'


@pytest.mark.parametrize("code", [Code.bad_request, Code.payload_invalid, Code.deadline_passed])
async def test_what_is_wrong_with_the_request_goes_nowhere_else(code: Code) -> None:
    far = Near("yes")
    assert (await Route(near=Near(fails=AiwmError(code, "no")), far=far).trouble()).code == code
    assert far.asked == []


async def test_what_was_begun_is_not_begun_again() -> None:
    far = Near("yes")
    error = await Route(near=Near("a", "b", fails=CRASH, after=1), far=far).trouble()
    assert (error.code, far.asked) == (Code.model_crashed, [])
    assert error.spent == (0, 1)


async def test_what_failed_calls_took_is_counted() -> None:
    fails = AiwmError(Code.remote_failed, "cut", retryable=True)
    fails.spent = (100, 20)
    outcome = await Route(near=Near(fails=fails), far=Near("yes")).ask()
    assert (outcome.tokens_in, outcome.tokens_out) == (107, 21)


async def test_the_last_failure_says_what_was_tried() -> None:
    error = await Route(
        near=Near(fails=CRASH), far=Near(fails=AiwmError(Code.remote_failed, "cut", retryable=True))
    ).trouble()
    assert (error.code, error.info.retryable) == (Code.remote_failed, True)
    assert error.info.message == "cut (tried before: near: model_crashed: it crashed)"


@pytest.mark.parametrize(
    ("policy", "text"), [("", "near"), ("failover", "near"), ("busy", "far"), ("local-first", "far")]
)
async def test_a_full_model_is_waited_for_or_not(policy: str, text: str) -> None:
    near = Near("near")
    near.slots = near.taken = 4
    outcome = await Route(policy, near=near, far=Near("far")).ask()
    assert outcome.text == text
    if text == "far":
        assert outcome.route[0] == "near: all 4 slots are taken"


async def test_a_slow_model_is_left() -> None:
    near = Near("near", held=True)
    outcome = await Route("busy", wait=0.05, near=near, far=Near("far")).ask()
    assert (outcome.text, near.cancelled) == ("far", 1)
    assert outcome.route == ("near: said nothing for 0.05 s", "far: answered")


async def test_a_slow_model_that_has_begun_is_not_left() -> None:
    near = Near("a", "b")
    route = Route("busy", wait=0.05, near=near, far=Near("far"))
    generation = await route.start()
    texts: list[str] = []
    async for delta in generation:
        near.go.clear()
        texts.append(delta.text)
        asyncio.get_running_loop().call_later(0.1, near.go.set)
    assert "".join(texts) == "ab"


async def test_when_nobody_else_can_the_busy_one_is_waited_for() -> None:
    near = Near("near")
    near.slots = near.taken = 1
    outcome = await Route("busy", near=near, far=Near(fails=CRASH)).ask()
    assert outcome.text == "near"
    assert outcome.route == ("near: all 1 slots are taken", "far: model_crashed: it crashed", "near: answered")


async def test_local_models_first(server: Loopback) -> None:
    far = Far(server)
    assert (await Route("local-first", far=far.model, near=Near("near")).ask()).text == "near"
    assert (await Route("busy", far=far.model, near=Near("near")).ask()).text == "it is four"


async def test_a_server_that_rests_is_not_asked(server: Loopback) -> None:
    far = Far(server)
    server.plays.append(Play(status=429, headers={"retry-after": "30"}))
    route = Route(far=far.model, near=Near("near"))
    first, second = await route.ask(), await route.ask()
    assert first.route[0].startswith("far: remote_overloaded: far: 127.0.0.1")
    assert second.route[0].startswith("far: limited for another ")
    assert len(server.asked) == 1
    await far.model.close()


async def test_cancel_stops_whichever_is_asked(server: Loopback) -> None:
    far = Far(server)
    server.plays.append(Play(hold=3))
    route = Route(near=Near(fails=CRASH), far=far.model)
    generation = await route.start()
    async for _ in generation:
        break
    await generation.cancel()
    assert generation.outcome.reason == "cancelled"
    await until(lambda: server.left == 1)
    assert route.holding == []


async def test_a_model_that_cannot_be_told_to_stop_keeps_nobody_waiting() -> None:
    near = Near("one", held=True)
    near.deaf = True
    generation = await Route(near=near).start()
    await until(lambda: len(near.asked) == 1)
    await asyncio.sleep(0)  # its answer is being read
    with pytest.raises(AiwmError, match="cannot be told"):
        await generation.cancel()
    assert [delta async for delta in generation] == []
    assert generation.outcome.reason == "cancelled"


async def test_a_deadline_is_shared() -> None:
    near = Near("near", held=True)
    far = Near("far")
    await Route("busy", wait=0.05, near=near, far=far).ask(deadline_ms=5_000)
    left = far.asked[0][0].deadline_ms
    assert left is not None
    assert 0 < left <= 4_950


@pytest.mark.parametrize(
    ("definition", "words"),
    [({"policy": "cheapest"}, "no policy"), ({"route": ()}, "needs a route"), ({"route": ("auto", "x")}, None)],
)
async def test_routes_that_are_none(definition: dict[str, Any], words: str | None) -> None:
    route = Route(near=Near("a"))
    model = route.model(**definition)
    route.members["auto"] = model
    asked = GenerateRequest(messages=())
    reservation = Reservation(task="t", attempt=1, definition="w", model="auto")
    with pytest.raises(AiwmError, match=words or "a route itself|not here") as raised:
        async for _ in await model.generate(asked, reservation):
            pass
    assert raised.value.code in (Code.model_invalid, Code.model_not_found)


async def test_what_it_tells() -> None:
    near = Near("a")
    route = Route(near=near)
    model = route.model(slots=3)
    model.announce()
    assert route.told == [ReplicaState(model="auto", replica="auto", total=3)]
    assert model.context == 512
    (row,) = model.rows()
    assert (row.id, row.backend, row.where, row.slots, row.state) == ("auto", "hybrid", "route", 3, "ready")
    assert row.note == "near"

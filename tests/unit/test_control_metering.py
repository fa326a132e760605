"""Calls of models are settled once, with what they really took, however they end."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from engine.contract.errors import AiwmError, Code
from engine.control.metering import Meter, MeteredGeneration, Pulse
from engine.ports import Delta, Outcome

OUTCOME = Outcome(reason="stop", text="ab", tokens_in=7, tokens_out=2, first_token_ms=1.0, total_ms=2.0)


class Said:
    """Two words, and then the end or a failure."""

    outcome = OUTCOME

    def __init__(self, fails: AiwmError | None = None) -> None:
        self.fails = fails
        self.cancelled = 0

    async def __aiter__(self) -> AsyncIterator[Delta]:
        yield Delta("a", 1)
        yield Delta("b", 1)
        if self.fails is not None:
            raise self.fails

    async def cancel(self) -> None:
        self.cancelled += 1


def _failing(spent: tuple[int, int] | None) -> AiwmError:
    error = AiwmError(Code.remote_failed, "cut")
    error.spent = spent
    return error


@pytest.mark.parametrize(
    ("fails", "settled"),
    [
        (None, (OUTCOME, (None, 2))),
        (_failing(None), (None, (None, 2))),
        (_failing((100, 5)), (None, (100, 5))),
        (_failing((0, 0)), (None, (0, 0))),
    ],
)
async def test_a_call_is_settled_with_what_is_known(fails: AiwmError | None, settled: object) -> None:
    told: list[object] = []
    said = Said(fails)
    metered = MeteredGeneration(said, lambda outcome, spent: told.append((outcome, spent)))
    try:
        assert [delta.text async for delta in metered] == ["a", "b"]
    except AiwmError as error:
        assert error is fails  # noqa: PT017 (it may also not fail)
    await metered.close()
    assert told == [settled]
    assert said.cancelled == 0


async def test_a_reader_that_leaves_pays_for_what_was_written() -> None:
    told: list[object] = []
    said = Said()
    metered = MeteredGeneration(said, lambda outcome, spent: told.append((outcome, spent)))
    async for _ in metered:
        break
    await metered.close()
    assert told == [(None, (None, 1))]
    assert said.cancelled == 1


def test_a_route_says_who_answered() -> None:
    meter = Meter()
    for route in ((), ("near: busy", "far: answered"), ("near: answered",)):
        meter.ended(Outcome(**{name: getattr(OUTCOME, name) for name in OUTCOME.__struct_fields__} | {"route": route}))
    assert list(meter.models) == ["far", "near"]


def test_a_model_that_falls_silent_in_the_midst_of_a_call_is_stuck() -> None:
    now = [100.0]
    pulse = Pulse(lambda: now[0])
    assert pulse.stuck() == ""
    pulse.opened()
    now[0] += 299
    # A long prompt may be read for minutes before the first token comes.
    assert pulse.stuck() == ""
    now[0] += 2
    assert pulse.stuck() == "no first token after 5m01s"
    pulse.beat()
    now[0] += 59
    assert pulse.stuck() == ""
    now[0] += 71
    assert pulse.stuck() == "no token for 2m10s"
    pulse.beat()
    assert pulse.stuck() == ""
    pulse.closed()
    now[0] += 1_000
    assert pulse.stuck() == ""

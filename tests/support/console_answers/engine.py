"""Answers about the engine itself: how it is, maintenance, usage and limits."""

from __future__ import annotations

from fnmatch import fnmatchcase

import msgspec

from engine.contract.requests import limits, maintenance, session, usage
from engine.contract.why import Why
from tests.support.console_engine import NOW, ConsoleEngine, answers
from tests.support.rows import why

STATUS = session.EngineStatusResult(
    version="1.0",
    pid=4242,
    home="/home/ana/[bold]aiwm",
    epoch=3,
    started_ms=NOW - 3_600_000,
    dispatching=True,
    storage="ok",
    clients=1,
    running=2,
    waiting=14,
    commits=1_204,
    text="",
)


@answers(session.EngineStatus)
def _status(engine: ConsoleEngine, request: session.EngineStatus) -> session.EngineStatusResult:
    return msgspec.structs.replace(STATUS, maintenance=engine.maintenance)


@answers(session.EngineWhy)
def _why(engine: ConsoleEngine, request: session.EngineWhy) -> Why:
    return why("engine", "14 tasks")


@answers(maintenance.EngineDrain)
def _drain(engine: ConsoleEngine, request: maintenance.EngineDrain) -> maintenance.Drained:
    engine.maintenance = maintenance.Maintenance(reason=request.reason, by="ana", since_ms=NOW)
    running = maintenance.RunningTask(
        id="t-10001", instance="i-01", definition="nano", kind="http", idempotent=False, for_ms=9_000
    )
    return maintenance.Drained(
        maintenance=engine.maintenance, idle=False, running=[running], risky=["http"], waiting=14
    )


@answers(maintenance.EngineResume)
def _resume(engine: ConsoleEngine, request: maintenance.EngineResume) -> maintenance.Resumed:
    before, engine.maintenance = engine.maintenance, None
    return maintenance.Resumed(maintenance=before, waiting=14)


@answers(usage.SamplesRead)
def _samples(engine: ConsoleEngine, request: usage.SamplesRead) -> list[usage.Series]:
    """What a test put there, as far back as was asked for."""
    since = request.since_ms or 0
    named = [name for name in sorted(engine.samples) if any(fnmatchcase(name, each) for each in request.names)]
    return [
        usage.Series(name=name, step_ms=request.step_ms, points=points)
        for name in named
        if (points := [point for point in engine.samples[name] if point[0] >= since])
    ]


@answers(usage.UsageRead)
def _usage(engine: ConsoleEngine, request: usage.UsageRead) -> list[usage.UsageRow]:
    fields = {"tasks": 31, "completed": 30, "failed": 1, "tokens_in": 29_760, "tokens_out": 190_464}
    return [usage.UsageRow(name=f"{request.by} [bold]one", cost_usd=0.0123, spent_ms=110_000, **fields)]


@answers(limits.LimitsList)
def _limits(engine: ConsoleEngine, request: limits.LimitsList) -> list[limits.LimitRow]:
    none = limits.LimitWindow(name="tokens/day", used=0, limit=0)
    full = limits.LimitWindow(name="requests/min", used=2, limit=2, opens_ms=NOW + 41_000)
    row = limits.LimitRow(
        id="nano",
        state="limited",
        requests_per_minute=full,
        tokens_per_minute=none,
        tokens_per_day=none,
        instances=none,
        under_way=1,
        waiting=3,
        opens_ms=NOW + 41_000,
        why="2 of 2 requests in this minute",
    )
    return [row]

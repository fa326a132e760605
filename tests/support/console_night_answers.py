"""What the engine of that night answers: series, charts, a task while it writes, logs, and what failures and operations were about."""

from __future__ import annotations

import math

from engine.contract.definitions import QueueDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.records import TimelineStep
from engine.contract.records.definitions import ScaleStep
from engine.contract.requests.batches import BatchPage, BatchResult, BatchResults
from engine.contract.requests.context import EffectiveContext, GivenSource, GivenSupervisor
from engine.contract.requests.failures import Common, FailureDetail, FailureShow
from engine.contract.requests.fleet import ModelList
from engine.contract.requests.logs import LogFollow, LogFollowed, LogList, LogRead, LogText, LogUnfollow
from engine.contract.requests.operations import OperationDetail, OperationShow
from engine.contract.requests.session import EngineStatus, EngineStatusResult, EngineWhy
from engine.contract.requests.usage import UsageRead, UsageRow
from engine.contract.why import Gate, Why
from tests.support.console_answers.agents import turn
from tests.support.console_engine import NOW, ConsoleEngine

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000

LOG = (
    "2026-11-20T03:05:01Z loading Llama-3.1-8B from model-00001-of-00004.safetensors\n"
    "2026-11-20T03:05:09Z 4 of 4 files, 15.0 GiB in 8.2 s\n"
    "2026-11-20T03:05:10Z KV cache: 4.0 GiB, 32,768 tokens in pages of 256\n"
    "2026-11-20T03:05:10Z ready: 16 slots, context 8,192\n"
    + "".join(
        f"2026-11-20T03:0{5 + n // 6}:{n % 6}0Z step {1_204_100 + 377 * n}: {4 + n % 3} running, {61 - n % 7} pages free\n"
        for n in range(2, 15)
    )
    + "2026-11-20T03:07:29Z adapter tone-ben@v2 8a90f1 is evicted: the least used of 20, last asked for 41m ago; 84.0 MiB are free again"
    " and its next use will have to read it from disk\n"
    "2026-11-20T03:07:30Z step 1209755: 4 running, 60 pages free\n"
)  # fmt: skip


def answer(engine: ConsoleEngine) -> None:
    """Put all of it into a stand-in engine."""
    _series(engine)
    _task(engine)
    _places(engine)
    _requests(engine)


def _series(engine: ConsoleEngine) -> None:
    """An hour in which more and more waited, while the pool grew as far as it may."""
    for minute in range(60):
        at_ms = NOW - (60 - minute) * MINUTE
        come, go = (12.0, 12.0) if minute < 19 else (22.0, 12.0 + min(6.0, (minute - 19) * 0.3))
        behind = max(0.0, (minute - 19) * 27.0)
        up = 3.0 + sum(minute >= at for at in (19, 24, 31, 37, 52))
        wave = 2 * math.sin(minute / 4)
        for name, value in {
            "queue.etl.waiting": behind, "queue.etl.head": behind * 2.2, "queue.etl.in": come, "queue.etl.out": go,
            "queue.etl.p50": 4_000 + 60 * wave, "queue.etl.p95": 11_000 + 300 * wave,
            "pool.extract.instances": up, "pool.extract.busy": up, "pool.extract.waiting": behind, "pool.extract.out": go,
            "model.qwen14.0.hits": 900.0 + 7 * minute, "model.qwen14.0.misses": 5.0 + 4 * (minute > 36), "model.qwen14.0.evictions": 0.0,
            "model.llama8.0.hits": 300.0 + 60 * minute, "model.llama8.0.misses": 20.0 + minute // 12,
            "model.llama8.0.evictions": float(minute // 6),
            "queue.inbox.waiting": 10 + wave, "queue.inbox.in": 61 + wave, "queue.inbox.out": 60 + wave,
            "model.qwen14.0.tokens_per_s": 350 + 6 * wave, "model.qwen14.0.running": 7.0 + (minute > 30), "model.qwen14.0.rss_bytes": 3.2e9,
        }.items():  # fmt: skip
            engine.samples.setdefault(name, []).append((at_ms, value))
    steps = (
        (28, "in/m rose from 12 to 22", 12.0, 13.0), (23, "head of etl 4m31s old", 13.0, 16.0), (16, "head of etl 12m old", 16.0, 17.0),
        (10, "head of etl 19m old", 17.0, 17.0), (4, "slot 8 of qwen14 free", 17.0, 18.0),
    )  # fmt: skip
    engine.steps["extract"] = [
        ScaleStep(id=f"extract/{place}", at_ms=NOW - ago * MINUTE, pool="extract", change=1, instance=f"i-0{place + 4}", reason=reason,
                  total=place + 4, idle=0, busy=place + 4, waiting=place * 200, out_before=before, out_after=after)
        for place, (ago, reason, before, after) in enumerate(steps)
    ][::-1]  # fmt: skip


def _task(engine: ConsoleEngine) -> None:
    engine.write(
        "t-4hq7x",
        '{\n  "supplier": "Müller & Söhne GmbH",\n  "invoice_no": "2026-11-0431",\n  "date": "2026-11-12",\n  "net": 1240.50,\n'
        '  "vat": 235.70,\n  "lines": [\n    {"pos": 1, "text": "Wartung Presse 4", "qty": 1, "eur": 940.00},\n'
        '    {"pos": 2, "text": "Anfahrt", "qty": 2, "eur": 60.2',
    )
    engine.details["t-4hq7x"] = {
        "payload": {"prompt": "Extract supplier, number and lines of this invoice as JSON.\n\nMüller & Söhne GmbH …"},
        "deadline_ms": NOW + 199 * SECOND,
        "capabilities": ("json",),
        "timeline": tuple(
            TimelineStep(at_ms=NOW - round(ago * SECOND), type=kind, text=text)
            for ago, kind, text in (
                (2_470, "task.submitted", "to etl, by client/scanner-2, batch b-0412"),
                (9, "task.started", "attempt 1 on i-01"),
                (6.4, "tool.allowed", "file.read inv-2026/0431.txt"),
            )
        ),
    }
    engine.contexts["t-4hq7x"] = EffectiveContext(
        task="t-4hq7x", levels=(), sources=(
            GivenSource(source="inv-2026", level="pool", name="extract"), GivenSource(source="glossary-de", level="queue", name="etl"),
        ),
        supervisor=GivenSupervisor(supervisor="rules/1", level="queue", name="etl"), tools=("file.read", "file.list"),
        needs_approval=(), tools_allow=("file.read", "file.list"), tools_deny=("file.write",),
        tools_from=("definition invoice-extractor",),
    )  # fmt: skip


def _places(engine: ConsoleEngine) -> None:
    engine.definitions["queues", "etl"] = QueueDefinition(name="etl", pools=("extract",))
    engine.turns["i-20"] = (
        turn(13, "What did I promise Ben?", "The figures for November, by Friday noon.", context=7_590),
        turn(14, "Write him that they come on Thursday.",
             "Dear Ben,\n\nthe figures for November reach you on Thursday already.\n\nAnna", context=7_702, tokens_out=31),
    )  # fmt: skip
    engine.whys["extract"] = Why(
        scope="pool", about="extract", moving=True, summary="1,102 tasks wait for extract; 8 of 8 are at work",
        gates=(
            Gate(name="pool at max", closed=True, count=1_071, since_ms=NOW - 41 * MINUTE, opens="when a task ends", why="8 of 8 busy",
                 fix="aiwm pool scale extract --max 11"),
        ),
    )  # fmt: skip
    for model in ("Qwen2.5-14B-exl2-5.0bpw", "Llama-3.1-8B"):
        engine.whys[model] = Why(scope="model", about=model, moving=True, summary="it works; nothing waits for memory")
    for task, at in {"t-4hq7x": "i-01", "t-4hn02": "i-04", "t-4hq90": "i-11"}.items():
        engine.whys[task] = Why(scope="task", about=task, moving=True, summary=f"it runs on {at}")
    engine.whys["etl"] = Why(
        scope="queue", about="etl", moving=True, summary="1,102 tasks wait; extract works at its limit",
        gates=(
            Gate(name="pool at max", closed=True, count=1_071, since_ms=NOW - 41 * MINUTE, opens="when a task ends",
                 why="extract has 8 of 8 at work", fix="aiwm pool scale extract --max 11"),
            Gate(name="no worker", closed=True, count=18, since_ms=NOW - 16 * MINUTE, opens="never by itself",
                 why="needs vision: no pool has it"),
            Gate(name="after", closed=True, count=12, since_ms=NOW - 9 * MINUTE, opens="when t-4hq7x ends",
                 why="wait for another task"),
            Gate(name="backoff", closed=True, count=1, since_ms=NOW - 14 * SECOND, opens_ms=NOW + 30 * SECOND,
                 why="attempt 3 of 3 of t-4hn01", fix="aiwm task retry t-4hn01"),
        ),
    )  # fmt: skip


def _requests(engine: ConsoleEngine) -> None:
    engine.answers[LogRead] = _read_log
    engine.answers[UsageRead] = lambda _, __: _usage()
    engine.answers[EngineStatus] = lambda _, __: EngineStatusResult(
        version="1.0", pid=4200, home="/home/ana/.local/share/aiwm", epoch=3, started_ms=NOW - 3 * DAY - 4 * HOUR, dispatching=True,
        storage="ok", clients=3, running=14, waiting=1_284, commits=184_213, text="",
    )  # fmt: skip
    engine.answers[EngineWhy] = lambda engine, _: engine.whys["etl"]
    engine.answers[FailureShow] = _failure
    engine.answers[OperationShow] = _operation
    engine.answers[BatchResults] = _results
    engine.answers[LogList] = lambda engine, _: list(engine.tables["logs"].values())
    engine.answers[LogFollow] = lambda _, request: LogFollowed(stream=f"l-{request.name}")
    engine.answers[LogUnfollow] = lambda _, __: None
    engine.answers[ModelList] = lambda engine, _: list(engine.tables["models"].values())


def _read_log(_: ConsoleEngine, request: LogRead) -> LogText:
    if request.previous:
        raise AiwmError(Code.not_found, "nothing is kept of earlier lives")
    text = "".join(LOG.splitlines(keepends=True)[-request.lines :])
    return LogText(name=request.name, life=1, text=text, next=len(LOG), changed_ms=NOW - 11 * SECOND)


def _failure(engine: ConsoleEngine, request: FailureShow) -> FailureDetail:
    row = engine.row("failures", request.id)
    common = (
        Common(field="adapter", value="invoice-de@v3", count=row.count),
        Common(field="pool", value="extract", count=row.count),
    )
    return FailureDetail(row=row, failed_now=row.count, tasks=(row.task or "",), common=common)


def _operation(engine: ConsoleEngine, request: OperationShow) -> OperationDetail:
    ids = tuple(f"t-4hk1{n}" for n in range(3, 9))
    return OperationDetail(
        row=engine.row("operations", request.id), ids=ids, settings={"adapter": "invoice-de@v4", "canary": 1}
    )


def _results(engine: ConsoleEngine, request: BatchResults) -> BatchPage:
    ended = [
        row
        for row in engine.tables["tasks"].values()
        if row.batch == request.name and row.state in ("completed", "failed")
    ]
    results = [
        BatchResult(index=3_880 + place, key=f"row-{3_880 + place}", id=row.id, state=row.state, result=row.reason,
                    tokens_in=row.tokens_in, tokens_out=row.tokens_out)
        for place, row in enumerate(ended)
    ]  # fmt: skip
    return BatchPage(row=engine.row("batches", request.name), results=results, upto=3_890, more=False)


def _usage() -> list[UsageRow]:
    rows = [
        ("client/scanner-2", 3_896, 3_857, 31, 4_402_480, 1_551_008, 0.0, 15_980),
        ("ana", 958, 906, 4, 1_204_900, 402_113, 4.1072, 2_340),
        ("agent/builder", 11, 11, 0, 31_040, 9_072, 0.0, 74),
        ("agent/healing", 7, 7, 0, 12_402, 2_210, 0.0, 41),
    ]
    return [
        UsageRow(name=name, tasks=tasks, completed=done, failed=failed, tokens_in=read, tokens_out=wrote, cost_usd=cost,
                 spent_ms=s * SECOND)
        for name, tasks, done, failed, read, wrote, cost, s in rows
    ]  # fmt: skip

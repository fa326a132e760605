"""One night on a workstation with two GPUs, at one moment: enough of everything that every screen of the console has something to show,
and such that the screens agree with each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from engine.contract.records import (
    BatchRow,
    DeviceRow,
    EventRow,
    FailureRow,
    InstanceRow,
    MachineRow,
    ModelRow,
    NeedRow,
    OperationRow,
    PoolRow,
    QueueRow,
    Record,
    TaskRow,
    WorkerRow,
)
from engine.contract.records.logs import LogRow
from tests.support.console_answers.agents import approval_row
from tests.support.console_engine import NOW, ConsoleEngine
from tests.support.console_inference import G, M, adapters, devices, models
from tests.support.console_night_answers import DAY, HOUR, LOG, MINUTE, SECOND, answer
from tests.support.rows import instance_row, model_row, pool_row, queue_row, task_row, worker_row

QUIET = (9, 12, 10, 8, 11, 14, 9, 31, 12, 10, 9, 8, 12, 11, 10, 26, 9, 12, 11, 12)
RISING = (0, 12, 30, 60, 110, 160, 240, 300, 380, 440, 510, 580, 640, 720, 790, 860, 930, 990, 1_050, 1_102)


def night(engine: ConsoleEngine) -> ConsoleEngine:
    """Put that night into a stand-in engine."""
    tables: dict[str, Sequence[Record]] = {
        "machine": [_machine()],
        "needs": _needs(),
        "queues": _queues(),
        "pools": _pools(),
        "instances": _instances(),
        "models": _models(),
        "devices": _devices(),
        "adapters": adapters(),
        "workers": _workers(),
        "tasks": _tasks(),
        "approvals": _approvals(),
        "events": _events(),
        "failures": _failures(),
        "batches": _batches(),
        "operations": _operations(),
        "logs": _logs(),
    }
    for table, rows in tables.items():
        engine.put(table, *rows)
    answer(engine)
    return engine


def _machine() -> MachineRow:
    return MachineRow(
        id="anvil", host="anvil", gpus=("GPU0 21.1/24.0G", "GPU1 20.3/24.0G"),
        started_ms=NOW - 3 * DAY - 4 * HOUR, running=14, waiting=1_284, fail_today=37, asks=2,
        tokens_per_s=560.0, mode="live", cpu_percent=41.0,
    )  # fmt: skip


def _needs() -> list[NeedRow]:
    rows = [
        (
            0,
            112,
            "broken",
            "mistral24 cannot be loaded",
            "needs 15.8G, most free 3.7G",
            "L make room",
            ":models id:mistral24",
        ),
        (1, 112, "held", "summaries stands still", "2,000,000 tokens/day used", "↵ its gates", ":queues id:summaries"),
        (2, 41, "wrong", "etl falls behind", "22.1/m come, 18.0/m go", "S scale extract", ":pools id:extract"),
        (2, 6, "asks", "healing asks: model.unload", "GPU1 full 3 times this hour", "↵ read, A or B", ":approvals"),
        (3, 38, "broken", "31 tasks failed alike", "output is not JSON", "↵ R retry", ":tasks fail:f-7c1"),
    ]
    return [
        NeedRow(id=f"n{place}", rank=rank, since_ms=NOW - age * MINUTE, state=state, what=what, why=why, press=press, location=at)
        for place, (rank, age, state, what, why, press, at) in enumerate(rows)
    ]  # fmt: skip


def _queues() -> list[QueueRow]:
    common: dict[str, Any] = {"scheduled": 0, "retrying": 0, "cancelled": 2}
    return [
        queue_row("etl", **common | {"retrying": 1}, waiting=1_102, running=8, completed=18_220, failed=31, head_ms=NOW - 41 * MINUTE,
                  in_per_min=22.1, out_per_min=18.0, pools=("extract",), gate="pool at max 8", p50_ms=4_100.0, p95_ms=11_200.0,
                  trend=RISING),
        queue_row("summaries", **common, waiting=150, running=0, completed=903, failed=0, head_ms=NOW - 112 * MINUTE,
                  in_per_min=1.4, out_per_min=0.0, pools=("summarize",), gate="tokens/day: opens 00:00",
                  trend=tuple(150 * n // 20 for n in range(1, 21))),
        queue_row("nightly-eval", **common | {"scheduled": 60}, state="paused", waiting=20, running=0, completed=240, failed=0,
                  head_ms=NOW - 57 * MINUTE, in_per_min=0.0, out_per_min=0.0, pools=("evals",), gate="paused by ana",
                  durability="os", trend=(20,) * 20),
        queue_row("inbox", **common, waiting=12, running=4, completed=41_007, failed=2, head_ms=NOW - 3 * SECOND, in_per_min=61.0,
                  out_per_min=60.2, pools=("triage",), gate="", p50_ms=800.0, p95_ms=1_900.0, empty_ms=12_000.0, trend=QUIET),
        queue_row("bookmarks", **common, waiting=0, running=2, completed=1_530, failed=4, head_ms=None, in_per_min=3.0,
                  out_per_min=3.0, pools=("links",), gate="", durability="memory", p50_ms=12_000.0, p95_ms=58_000.0),
    ]  # fmt: skip


def _pools() -> list[PoolRow]:
    return [
        pool_row("extract", state="at max", definition="invoice-extractor", queues=("etl",), model="qwen14", busy=8, min_idle=1,
                 max_total=8, waiting=1_102, held_by="max 8", head_ms=NOW - 41 * MINUTE, p50_ms=4_100.0, up_1h=5),
        pool_row("triage", state="ok", definition="mail-triage", queues=("inbox",), model="llama8", busy=4, min_idle=1, max_total=6,
                 waiting=12, head_ms=NOW - 3 * SECOND, p50_ms=800.0, up_1h=9, down_1h=8),
        pool_row("summarize", state="limited", definition="summarizer", queues=("summaries",), model="claude", busy=0, idle=1,
                 min_idle=0, max_total=2, waiting=150, held_by="tokens/day", head_ms=NOW - 112 * MINUTE, down_1h=1),
        pool_row("links", state="ok", definition="link-checker", queues=("bookmarks",), model="", busy=2, idle=1, min_idle=0,
                 max_total=4, waiting=0, p50_ms=12_000.0, up_1h=2, down_1h=1),
        pool_row("evals", state="empty", definition="qwen-judge", queues=("nightly-eval",), model="qwen14", busy=0, min_idle=0,
                 max_total=2, waiting=20, held_by="queue paused"),
    ]  # fmt: skip


def _instances() -> list[InstanceRow]:
    def one(number: int, pool: str, definition: str, **more: Any) -> InstanceRow:
        fields: dict[str, Any] = {
            "kind": "goat",
            "task": f"t-4hq8{number:x}",
            "since_ms": NOW - 2 * SECOND,
            "spawned_ms": NOW - HOUR,
        }
        return instance_row(number, **(fields | {"pool": pool, "definition": definition} | more))

    extract: dict[str, Any] = {
        "pool": "extract",
        "definition": "invoice-extractor",
        "max_tasks": 500,
        "context_max": 16_384,
    }
    triage: dict[str, Any] = {"pool": "triage", "definition": "mail-triage", "context_max": 8_192}
    rest: dict[str, Any] = {"state": "idle", "task": None}
    return [
        one(1, **extract, task="t-4hq7x", since_ms=NOW - 9 * SECOND, done=212, context=9_120, tokens=1_912_004),
        one(2, **extract, since_ms=NOW - 4 * SECOND, done=207, context=3_310, tokens=1_800_402),
        one(3, **extract, since_ms=NOW - 4 * SECOND, done=190, context=2_902, tokens=1_704_115),
        one(4, **extract, task="t-4hn02", since_ms=NOW - 401 * SECOND, done=188, failed=3, context=15_912, tokens=1_698_330,
            state="stuck", note="no token for 2m10s"),
        *(one(n, **extract, done=39 + n, context=900 + 400 * n, tokens=370_000 + 5_210 * n) for n in (5, 6, 7, 8)),
        *(one(n, **triage, task=f"t-4hq9{n - 11}", done=903 - 21 * (n - 11), context=410, tokens=610_000 - 9_400 * (n - 11))
          for n in (11, 12, 13, 19)),
        one(15, "summarize", "summarizer", state="limited", task=None, since_ms=NOW - 112 * MINUTE, done=388, tokens=2_000_000,
            until_ms=NOW + 20 * HOUR + 52 * MINUTE, note="2.0M tokens/day used"),
        one(16, "links", "link-checker", kind="http", task="t-4hp11", since_ms=NOW - 14 * SECOND, done=70, tokens=0),
        one(17, "links", "link-checker", kind="http", task="t-4hp12", since_ms=NOW - 11 * SECOND, done=69, tokens=0),
        one(18, "links", "link-checker", kind="http", **rest, since_ms=NOW - 182 * SECOND, done=66, tokens=0,
            note="retires in 1m58s (min idle 0)"),
        one(20, "", "persona-anna", **rest, since_ms=NOW - 12 * MINUTE, done=14, context=7_702, context_max=8_192, tokens=31_020,
            by="ana"),
    ]  # fmt: skip


def _devices() -> list[DeviceRow]:
    gpu1 = DeviceRow(
        id="GPU1", name="RTX 4090", total_bytes=24 * G, free_bytes=int(3.7 * G), weights_bytes=15 * G, kv_bytes=4 * G,
        adapters_bytes=int(0.2 * G), scratch_bytes=1 * G, others_bytes=int(0.1 * G), utilisation=64.0, temperature_c=62.0, power_w=241.0,
        power_limit_w=450.0, pcie_bytes_per_s=0.2 * G,
    )  # fmt: skip
    gpu0, host = devices()
    return [gpu0, gpu1, host]


def _models() -> list[ModelRow]:
    qwen, _, _, refused = models()
    llama = model_row(
        id="llama8.0", model="Llama-3.1-8B", state="busy", backend="exllamav2", where="GPU1", running=4, slots=16, tokens_per_s=198.0,
        steps_per_s=61.0, weights_bytes=15 * G, kv_bytes=4 * G, kv_used_bytes=int(0.6 * G), rss_bytes=int(2.1 * G), restarts=1,
        since_ms=NOW - 115 * MINUTE, pid=4243, latency_ms=180.0, hits=974, misses=26, evictions=11, idle_ms=900_000,
    )  # fmt: skip
    nano = model_row(
        state="ready", where="CPU", running=0, slots=16, tokens_per_s=0.0, steps_per_s=0.0, kv_bytes=32 * M, rss_bytes=94 * M,
        since_ms=NOW - 2 * MINUTE, pid=4244,
    )  # fmt: skip
    claude = model_row(
        id="claude", model="claude", state="limited", backend="anthropic", where="net", running=0, slots=4, tokens_per_s=0.0,
        steps_per_s=0.0, weights_bytes=0, kv_bytes=0, rss_bytes=0, since_ms=NOW - 112 * MINUTE, pid=None, note="tokens/day: opens 00:00",
        url="https://api.anthropic.com",
    )  # fmt: skip
    return [msgspec.structs.replace(qwen, rss_bytes=3 * G), llama, nano, claude, refused]


def _workers() -> list[WorkerRow]:
    rows = [
        (
            "invoice-extractor",
            "goat",
            "qwen14",
            ("json",),
            ("extract",),
            "41ac9f00d1",
            "Invoices to JSON: supplier, number, lines.",
        ),
        ("mail-triage", "goat", "llama8", ("json",), ("triage",), "77e310aa02", "Sorts mail into eleven categories."),
        ("summarizer", "goat", "claude", (), ("summarize",), "0c91d2e3f4", "Ten lines on a long document."),
        ("link-checker", "http", "", (), ("links",), "00aa11bb22", "Asks for an address, keeps title and status."),
        (
            "qwen-judge",
            "goat",
            "qwen14",
            ("json",),
            ("evals",),
            "9d00c1a2b3",
            "Marks answers from 0 to 10, with a reason.",
        ),
        ("persona-anna", "goat", "llama8", (), (), "51b2d90011", "Talks as Anna does."),
    ]
    return [
        worker_row(name, kind=kind, model=model, capabilities=able, pools=pools, digest=digest, description=text)
        for name, kind, model, able, pools, digest, text in rows
    ]


def _task(name: str, state: str, queue: str, **more: Any) -> TaskRow:
    fields: dict[str, Any] = {"priority": 5, "attempt": 0, "by": "ana", "submitted_ms": NOW - 41 * MINUTE, "reason": ""}
    return task_row(1, **(fields | {"id": name, "state": state, "queue": queue} | more))


def _tasks() -> list[TaskRow]:
    v3, v4 = {"adapter": "invoice-de@v3"}, {"adapter": "invoice-de@v4"}
    etl: dict[str, Any] = {"template": "invoice", "definition": "invoice-extractor", "pool": "extract", "by": "client/scanner-2",
                           "batch": "b-0412"}  # fmt: skip
    went: dict[str, Any] = {"started_ms": NOW - 33 * MINUTE, "ended_ms": NOW - 33 * MINUTE + 41 * SECOND, "attempt": 3}
    bad: dict[str, Any] = {
        **etl,
        **v3,
        **went,
        "error": "output_not_json",
        "fail": "f-7c1",
        "reason": "output is not JSON",
    }
    return [
        _task("t-4hq7x", "processing", "etl", **etl, **v4, priority=8, attempt=1, instance="i-01", started_ms=NOW - 9 * SECOND,
              tokens_in=1_204, tokens_out=388, reason='{"supplier": "Müller & Söhne GmbH"'),
        _task("t-4hn02", "processing", "etl", **etl, **v3, attempt=2, instance="i-04", started_ms=NOW - 401 * SECOND,
              submitted_ms=NOW - 35 * MINUTE, tokens_in=880, tokens_out=15_032, reason='{"iban": "DE000000000000000'),
        _task("t-4hq90", "processing", "inbox", template="mail", priority=5, attempt=1, instance="i-11", started_ms=NOW - SECOND,
              submitted_ms=NOW - 3 * SECOND, tokens_in=310, tokens_out=22, adapter="triage-fr@v2", reason="category: invoice_question"),
        _task("t-4hn01", "retrying", "etl", **etl, **v3, attempt=2, due_ms=NOW + 30 * SECOND, submitted_ms=NOW - 38 * MINUTE,
              tokens_in=901, tokens_out=512, error="output_not_json", fail="f-7c1", reason="output is not JSON"),
        _task("t-4hr20", "pending", "etl", template="contract", priority=9, submitted_ms=NOW - 16 * MINUTE,
              reason="needs vision: no pool has it"),
        *(_task(f"t-4hq9{mark}", "pending", "etl", **etl, **v4, reason="pool at max 8") for mark in "cdef"),
        _task("t-4ha01", "pending", "summaries", template="digest", submitted_ms=NOW - 112 * MINUTE, reason="tokens/day: opens 00:00"),
        _task("t-4hb77", "pending", "nightly-eval", template="judge", priority=3, submitted_ms=NOW - 57 * MINUTE,
              reason="queue paused by ana"),
        _task("t-4hz00", "scheduled", "nightly-eval", template="judge", priority=3, due_ms=NOW + 3_139 * SECOND),
        *(_task(f"t-4hk1{n}", "failed", "etl", **bad, tokens_in=1_150 - 80 * (n - 3), tokens_out=2_048) for n in range(3, 9)),
        _task("t-4hc02", "failed", "bookmarks", template="link", **went, submitted_ms=NOW - 130 * MINUTE, error="timeout",
              fail="f-102", reason="no answer within 30s"),
        _task("t-4hd55", "cancelled", "inbox", template="mail", attempt=1, ended_ms=NOW - 62 * MINUTE, tokens_in=288, tokens_out=4,
              submitted_ms=NOW - 63 * MINUTE, reason="by ana: duplicate of t-4hd54"),
        *(_task(f"t-4hq7{mark}", "completed", "etl", **etl, **v4, attempt=1, started_ms=NOW - 20 * SECOND - place * 9 * SECOND,
                ended_ms=NOW - 12 * SECOND - place * 9 * SECOND, tokens_in=1_199 - 7 * place, tokens_out=402 - 11 * place,
                reason='{"supplier": "Kern AG", "invoice_no": "K-2210"') for place, mark in enumerate("wvutsr")),
    ]  # fmt: skip


def _approvals() -> list[Any]:
    tool = approval_row(
        12, method="tool.register", params={"name": "invoice_pdf_split", "kind": "http"}, by="agent:builder",
        why="the same split was made by hand 14 times", asked_ms=NOW - MINUTE, task="t-4hc02",
    )  # fmt: skip
    return [approval_row(11, task="t-4hk13"), tool]


def _events() -> list[EventRow]:
    rows = [
        (0.7, "info", "task.started", "dispatcher", "t-4hq90", "on i-11, waited 1.2s"),
        (0.9, "info", "task.completed", "i-02", "t-4hq7w", "402 tokens in 8.1s"),
        (11, "warn", "adapter.evicted", "llama8.0", "tone-ben", "v2, least used of 20"),
        (30, "warn", "task.retry", "scheduler", "t-4hn01", "2 of 3 at 03:08:11: output is not JSON"),
        (43, "info", "pool.scaled", "scheduler", "triage", "3 → 4: inbox waited 9s"),
        (60, "ask", "approval.opened", "agent:builder", "ap-12", "tool.register invoice_pdf_split"),
        (151, "error", "model.refused", "inference", "mistral24", "15.8G needed; 2.9G and 3.7G free"),
        (151.1, "audit", "model.load", "ana (console)", "mistral24", "asked for any GPU, 16k context"),
        (379, "ask", "approval.opened", "agent:healing", "ap-11", "model.unload llama8.0"),
        (1_418, "audit", "adapter.chosen", "ana (cli)", "invoice-de", "v3 → v4: loops on zeros"),
        (2_071, "error", "task.failed", "i-04", "t-4hk13", "output is not JSON"),
        (3_450, "audit", "queue.paused", "ana (console)", "nightly-eval", "until the new exam is there"),
    ]
    return [
        EventRow(id=str(91_200 - place), at_ms=NOW - round(ago * SECOND), level=level, type=kind, who=who, about=about, text=text,
                 task=about if about.startswith("t-") else None,
                 correlation="c-90a1" if about == "mistral24" else f"c-{place}")
        for place, (ago, level, kind, who, about, text) in enumerate(rows)
    ]  # fmt: skip


def _failures() -> list[FailureRow]:
    return [
        FailureRow(id="f-7c1", code="output_not_json", message="the answer broke off at max output, 2,048 tokens", count=31,
                   first_ms=NOW - 38 * MINUTE, last_ms=NOW - 23 * MINUTE, definition="invoice-extractor", queue="etl", task="t-4hk13",
                   fix="aiwm task retry --where fail:f-7c1 --adapter invoice-de@v4"),
        FailureRow(id="f-102", code="timeout", message="no answer within 30s", count=4, first_ms=NOW - 5 * HOUR,
                   last_ms=NOW - 130 * MINUTE, definition="link-checker", queue="bookmarks", task="t-4hc02", retryable=True),
        FailureRow(id="f-0d8", code="context_full", message="the prompt has 9,204 tokens, the context 8,192", count=2,
                   first_ms=NOW - 3 * HOUR, last_ms=NOW - 2 * HOUR, definition="mail-triage", queue="inbox", task="t-4h901"),
    ]  # fmt: skip


def _batches() -> list[BatchRow]:
    return [
        BatchRow(id="b-0412", state="processing", queue="etl", by="client/scanner-2", at_ms=NOW - 41 * MINUTE, total=5_000, waiting=1_102,
                 running=8, completed=3_857, failed=31, cancelled=2, per_min=18.0, eta_ms=NOW + 62 * MINUTE, template="invoice"),
        BatchRow(id="b-0411", state="processing", queue="summaries", by="ana", at_ms=NOW - 2 * HOUR, total=160, waiting=150, running=0,
                 completed=10, failed=0, cancelled=0, template="digest"),
        BatchRow(id="b-0398", state="failed", queue="inbox", by="ana", at_ms=NOW - 9 * HOUR, total=800, waiting=0, running=0,
                 completed=798, failed=2, cancelled=0, template="mail"),
    ]  # fmt: skip


def _operations() -> list[OperationRow]:
    return [
        OperationRow(id="op-118", request="task.retry", state="canary", by="ana (console)", at_ms=NOW - 20 * SECOND, count=31, done=1,
                     text="31 tasks with fail:f-7c1, adapter invoice-de@v4"),
        OperationRow(id="op-117", request="task.cancel", state="waiting", by="ana (console)", at_ms=NOW - 12 * SECOND,
                     due_ms=NOW + 18 * SECOND, count=3, text="3 tasks of bookmarks", reason="dead links"),
        OperationRow(id="op-116", request="adapter.use", state="done", by="ana (cli)", at_ms=NOW - 23 * MINUTE,
                     ended_ms=NOW - 23 * MINUTE, count=1, done=1, text="invoice-de: v3 → v4", reason="loops on zeros"),
        OperationRow(id="op-115", request="task.move", state="failed", by="ana (cli)", at_ms=NOW - 3 * HOUR, ended_ms=NOW - 3 * HOUR,
                     count=18, done=0, refused=18, text="18 tasks to vision", reason='queue "vision" does not exist'),
    ]  # fmt: skip


def _logs() -> list[LogRow]:
    return [
        LogRow(id="engine", kind="engine", size_bytes=4_194_304, changed_ms=NOW - 43 * SECOND, lives=4,
               last="pool triage: 3 → 4, inbox waited 9s"),
        LogRow(id="llama8.0", kind="model", size_bytes=len(LOG), changed_ms=NOW - 11 * SECOND, lives=3, last="ended with code 71"),
        LogRow(id="qwen14.0", kind="model", size_bytes=1_204_331, changed_ms=NOW - 2 * SECOND, lives=1,
               last="step 1,204,331: 8 running, 40/s"),
        LogRow(id="worker-link-checker", kind="worker", size_bytes=20_480, changed_ms=NOW - 14 * SECOND, last="t-4hp11: 301 → https"),
    ]  # fmt: skip

"""The models, devices and adapters of one machine at one moment, for the console: those of the intended look."""

from __future__ import annotations

from typing import Any

from engine.contract.records import AdapterRow, DeviceRow, ModelRow
from engine.contract.requests.adapters import AdapterVersion, CacheStats, Reign
from engine.contract.requests.memory import EstimateParts, MemoryPlan, PlanSpace, PlanWay
from tests.support.console_engine import NOW
from tests.support.rows import model_row

G, M = 2**30, 2**20
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


def devices() -> list[DeviceRow]:
    return [
        DeviceRow(
            id="GPU0",
            name="RTX 4090",
            total_bytes=24 * G,
            free_bytes=int(2.9 * G),
            weights_bytes=int(9.4 * G),
            kv_bytes=6 * G,
            adapters_bytes=int(0.3 * G),
            scratch_bytes=1 * G,
            others_bytes=int(4.3 * G),
            others=("3.9G pid 88412 python (ana)", "0.4G pid 1201 Xorg (root)"),
            utilisation=97.0,
            temperature_c=71.0,
            power_w=388.0,
            power_limit_w=450.0,
            pcie_bytes_per_s=1.1 * G,
        ),
        DeviceRow(
            id="CPU",
            name="host memory",
            total_bytes=128 * G,
            free_bytes=87 * G,
            weights_bytes=5 * M,
            kv_bytes=32 * M,
            others_bytes=41 * G,
        ),
    ]


def models() -> list[ModelRow]:
    gone: dict[str, Any] = {
        "running": 0, "slots": 0, "tokens_per_s": 0.0, "steps_per_s": 0.0, "kv_bytes": 0, "kv_used_bytes": 0,
        "rss_bytes": 0, "pid": None, "where": "",
    }  # fmt: skip
    return [
        model_row(
            id="qwen14.0",
            model="Qwen2.5-14B-exl2-5.0bpw",
            backend="exllamav2",
            where="GPU0",
            running=8,
            slots=8,
            tokens_per_s=362.0,
            steps_per_s=40.0,
            weights_bytes=int(9.4 * G),
            kv_bytes=6 * G,
            kv_used_bytes=int(5.1 * G),
            adapter_bytes=int(0.3 * G),
            scratch_bytes=G,
            estimate_bytes=int(16.5 * G),
            since_ms=NOW - 3 * DAY,
            latency_ms=410.0,
            hits=991,
            misses=9,
            pid=4242,
        ),
        model_row(since_ms=NOW - 2 * MINUTE, state="ready", running=0, slots=16, idle_ms=900_000, pid=4243),
        model_row(
            id="llama8.0",
            model="Llama-3.1-8B",
            state="backoff",
            backend="exllamav2",
            since_ms=NOW - 11_000,
            note="the GPU ran out of memory",
            restarts=6,
            **gone,
        ),
        model_row(
            id="mistral24",
            model="mistral24",
            state="refused",
            backend="exllamav2",
            weights_bytes=int(12.6 * G),
            since_ms=NOW - 2 * MINUTE,
            note="needs 15.8G, most free 3.7G",
            **gone,
        ),
    ]


def plan(model: str = "mistral24", *, fits: bool = False) -> MemoryPlan:
    parts = EstimateParts(
        weights=int(12.6 * G), kv=2 * G, adapters=int(0.2 * G), scratch=G, process=0, total=int(15.8 * G)
    )
    ways = (
        PlanWay(
            number=1,
            text="unload llama8.0 after its 4",
            device="GPU1",
            frees=int(20.2 * G),
            spare=8 * G,
            fits=True,
            runnable=True,
            hit=("triage: inbox waits", "chat of ana ends"),
            load_ms=19_000,
            back_ms=NOW + 24_000,
        ),
        PlanWay(
            number=2,
            text="ana ends pid 88412",
            device="GPU0",
            frees=int(3.9 * G),
            spare=-5 * G,
            fits=False,
            runnable=False,
        ),
    )
    return MemoryPlan(
        id="p-1",
        model=model,
        backend="exllamav2",
        context=16_384,
        slots=8,
        estimate=parts,
        measured=int(15.6 * G),
        fits=fits,
        spaces=(PlanSpace(id="GPU0", name="RTX 4090", total=24 * G, free=int(2.9 * G)),),
        ways=() if fits else ways,
    )


def adapter(name: str, version: int, **changes: Any) -> AdapterRow:
    fields: dict[str, Any] = {
        "id": f"{name}@v{version}", "state": "resident", "name": name, "version": version, "current": False,
        "base": "qwen14", "rank": 32, "size_bytes": 131 * M, "digest": f"9b{version}f04" * 10, "path": f"/a/{name}",
        "since_ms": NOW - DAY,
    }  # fmt: skip
    return AdapterRow(**(fields | changes))


def adapters() -> list[AdapterRow]:
    return [
        adapter(
            "invoice-de", 4, state="pinned", current=True, in_use=7, uses=388, hits=388, load_ms=71.0, tasks=391, ok=0.992,
            processes=("qwen14.0",), used_by=("extract",),
        ),
        adapter(
            "invoice-de", 3, in_use=1, uses=33, hits=32, misses=1, load_ms=70.0, tasks=560, ok=0.411,
            processes=("qwen14.0",), used_by=("t-10001", "t-10002"),
        ),
        adapter("invoice-de", 2, state="absent", tasks=18_220, ok=0.979),
        adapter("triage-fr", 2, base="llama8", current=True, uses=3_611, hits=3_610, misses=1, processes=("llama8.0",)),
        adapter("legal-xl", 1, state="refused", note="uses DoRA (use_dora) and is no plain LoRA"),
    ]  # fmt: skip


def versions(name: str = "invoice-de") -> list[AdapterVersion]:
    made: dict[str, Any] = {"name": name, "by": "a-31", "digest": "9b77c2"}

    def one(version: int, **more: Any) -> AdapterVersion:
        fields = made | {
            "version": version,
            "current": False,
            "state": "absent",
            "made_ms": NOW - version * DAY,
            "ok": None,
        }
        fields |= {"parent": f"{name}@v{version - 1}" if version > 1 else "", "tasks": 0, "tokens_out_p50": None}
        return AdapterVersion(**(fields | more | {"name": f"{name}@v{version}"}))

    reign = Reign(from_ms=NOW - 23 * MINUTE, to_ms=None, by="ana", reason="loops on zeros")
    before = Reign(from_ms=NOW - 5 * HOUR, to_ms=NOW - 23 * MINUTE, by="ana")
    return [
        one(4, current=True, state="pinned", tasks=391, ok=0.992, tokens_out_p50=402.0, reigns=(reign,)),
        one(3, state="resident", tasks=560, ok=0.411, tokens_out_p50=2048.0, running=("t-10001",), reigns=(before,)),
        one(2, tasks=18_220, ok=0.979, tokens_out_p50=398.0, pinned=("auditor",)),
    ]


def caches() -> list[CacheStats]:
    common: dict[str, Any] = {
        "max_entries": 20, "max_bytes": 500 * M, "wasted": 0, "refusals": 0, "prefetch_hits": 81, "loads": 12,
        "load_ms_mean": 40.0,
    }  # fmt: skip
    return [
        CacheStats(
            id="qwen14.0", model="qwen14", entries=3, bytes=318 * M, staged_bytes=0, hits=991, misses=9, evictions=0,
            hit_rate=0.991, prefetch_rate=0.94, load_ms_p95=71.0, evictions_1h=0,
            misses_by_minute=(*(0,) * 36, 4, *(0,) * 20, 1, 0, 0), **common,
        ),
        CacheStats(
            id="llama8.0", model="llama8", entries=20, bytes=168 * M, staged_bytes=84 * M, hits=974, misses=26,
            evictions=11, hit_rate=0.974, prefetch_rate=0.81, load_ms_p95=38.0, evictions_1h=11,
            misses_by_minute=(0,) * 60, **common,
        ),
    ]  # fmt: skip

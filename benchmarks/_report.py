"""What every benchmark prints and writes: machine, versions, n, medians, and the ratio to a named peer of the same run."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """The machine in words that another reader can compare with theirs."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": sys.version.split()[0],
        "sqlite": sqlite3.sqlite_version,
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def versions(*packages: str) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def write(name: str, rows: list[dict[str, Any]], packages: tuple[str, ...] = (), notes: str = "") -> None:
    """Print the rows and write `results/<name>.json`."""
    document = {
        "benchmark": name,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions("aiwm-console", *packages),
        "notes": notes,
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    for key in ("machine", "versions"):
        print(key, " ".join(f"{name}={value}" for name, value in document[key].items()))  # type: ignore[attr-defined]
    for row in rows:
        print("  ".join(f"{key} {_show(value)}" for key, value in row.items()))


def _show(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def middle(values: list[float]) -> float:
    return float(median(values))

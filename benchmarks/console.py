"""The console against an empty Textual app and against other consoles, from outside, through a terminal: first frame, memory, idle,
key → paint.

    python -m benchmarks.console [--n 7] [--idle 10] [--peers FOLDER]

All take turns. The engine runs on its own beside the console, so what is measured is the console's process alone."""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import _consoles
from benchmarks._report import middle, write
from benchmarks._terminal import Terminal

EMPTY = """
from textual.app import App
from textual.widgets import Static
class Empty(App):
    def compose(self):
        yield Static("EMPTY-APP")
    def on_key(self, event):
        self.query_one(Static).update("EMPTY-APP " + event.key)
Empty().run()
"""
KEYS = 60


@contextmanager
def running_engine(home: Path) -> Iterator[None]:
    from engine.client import connect_blocking
    from engine.contract.requests.tasks import TaskRun
    from engine.home import socket_path

    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "engine", "run", "--home", str(home)], stderr=subprocess.DEVNULL
    )
    try:
        while not socket_path(home).exists():
            time.sleep(0.05)
        with connect_blocking(home, spawn=False) as client:
            # A home in which nothing was done begins on the start page, which takes the digits for itself.
            client.call(TaskRun(queue="echo", payload={"text": "x"}, timeout_ms=30_000))
        yield
    finally:
        process.terminate()
        process.wait()


def empty() -> Terminal:
    return Terminal([sys.executable, "-P", "-c", EMPTY])


def console(home: Path) -> Terminal:
    return Terminal([sys.executable, "-P", "-m", "aiwm_tui.main", "--home", str(home)])


def start(terminal: Terminal, word: str, idle_s: float) -> dict[str, float]:
    """One start: first frame, then memory, then a while in which nobody does anything."""
    first = terminal.until(word)
    frame_cpu = terminal.cpu_s()
    terminal.settle(3.0)
    rss, pss = terminal.memory_mib()
    cpu, began = terminal.cpu_s(), time.monotonic()
    written = terminal.settle(idle_s)
    took = time.monotonic() - began
    return {
        "first_frame_s": first,
        "first_frame_cpu_s": frame_cpu,
        "rss_mib": rss,
        "pss_mib": pss,
        "idle_cpu_percent": 100 * (terminal.cpu_s() - cpu) / took,
        "idle_bytes_per_s": written / took,
    }


Program = tuple[str, Callable[[], Terminal], str]


def starts(programs: Sequence[Program], n: int, idle_s: float) -> list[dict[str, Any]]:
    """n starts of each, in turns, after one of each that is not counted. The first program is the base of the ratios."""
    measured: dict[str, list[dict[str, float]]] = {name: [] for name, _, _ in programs}
    for turn in range(n + 1):
        for name, begin, word in programs:
            with begin() as terminal:
                seen = start(terminal, word, idle_s if turn else 0.1)
            if turn:
                measured[name].append(seen)
    rows: list[dict[str, Any]] = []
    floor = measured[programs[0][0]]
    base = {key: middle([each[key] for each in floor]) for key in floor[0]}
    for what, runs in measured.items():
        for key in runs[0]:
            values = sorted(run[key] for run in runs)
            ratio = middle(values) / base[key] if base[key] else None
            rows.append(
                {
                    "what": what,
                    "measure": key,
                    "median": middle(values),
                    "min": values[0],
                    "max": values[-1],
                    "n": n,
                    "ratio": ratio,
                }
            )
    return rows


def connected(home: Path, n: int) -> dict[str, Any]:
    """From the start of the program to live rows from a running engine."""
    times = []
    for _ in range(n):
        with console(home) as terminal:
            terminal.until("NEEDS YOU")
            times.append(terminal.until("live"))
    return {
        "what": "aiwm console",
        "measure": "live_rows_s",
        "median": middle(times),
        "min": min(times),
        "max": max(times),
        "n": n,
    }


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def keys_of(terminal: Terminal, first: bytes, second: bytes) -> list[float]:
    times = []
    for turn in range(KEYS):
        terminal.quiet(0.05)
        times.append(terminal.paint_after(first if turn % 2 else second) * 1000)
    return times


def prompts(terminal: Terminal) -> list[float]:
    """`/` opens the filter prompt on the table of tasks: painted when what may be typed there is on the screen."""
    terminal.type(b"2")
    terminal.until(":tasks")
    terminal.settle(0.5)
    times = []
    for _ in range(KEYS):
        times.append(terminal.paint_of(b"/", "batch:") * 1000)
        # A lone escape is one only after a pause: closing is not what is measured.
        terminal.type(b"\x1b")
        terminal.until_gone("batch:")
    return times


def screens(terminal: Terminal) -> list[float]:
    """Another screen: painted when its location is on the screen."""
    times = []
    for turn in range(KEYS):
        terminal.settle(0.05)
        key, word = ((b"3", ":queues"), (b"2", ":tasks"))[turn % 2]
        times.append(terminal.paint_of(key, word) * 1000)
    return times


def load(home: str, per_second: float, stop: Any, done: Any) -> None:
    """Submit no-op tasks at a rate, each of which is three events and several changed rows."""
    asyncio.run(_load(Path(home), per_second, stop, done))


async def _load(home: Path, per_second: float, stop: Any, done: Any) -> None:
    from engine.client import connect
    from engine.contract.requests.tasks import TaskSubmit

    client = await connect(home, spawn=False, name="load")
    began, sent = time.monotonic(), 0
    pending: set[asyncio.Task[Any]] = set()
    while not stop.is_set():
        due = int((time.monotonic() - began) * per_second)
        while sent < due and len(pending) < 500:
            task = asyncio.ensure_future(client.call(TaskSubmit(queue="echo", payload={"text": "x"})))
            pending.add(task)
            task.add_done_callback(pending.discard)
            sent += 1
        await asyncio.sleep(0.005)
    await asyncio.gather(*pending, return_exceptions=True)
    done.value = sent / (time.monotonic() - began)
    await client.close()


def keys(home: Path, per_second: float, peers: Sequence[_consoles.Peer], folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []

    def add(what: str, measure: str, times: list[float], **more: Any) -> None:
        p50, p95 = percentile(times, 0.5), percentile(times, 0.95)
        rows.append({"what": what, "measure": measure, "p50_ms": p50, "p95_ms": p95, "n": len(times), **more})

    with empty() as terminal:
        terminal.until("EMPTY-APP")
        terminal.settle(1.0)
        add("empty textual app", "key_to_paint_idle", keys_of(terminal, b"j", b"k"))
    for peer in peers:
        with _consoles.started(peer, folder) as terminal:
            terminal.until(peer.word)
            terminal.settle(2.0)
            add(peer.name, "key_to_paint_idle", keys_of(terminal, *peer.keys))
    with console(home) as terminal:
        terminal.until("live")
        terminal.settle(2.0)
        add("aiwm console", "key_to_paint_idle", keys_of(terminal, b"j", b"k"))
        add("aiwm console", "prompt_idle", prompts(terminal))
        add("aiwm console", "other_screen_idle", screens(terminal))
        context = multiprocessing.get_context("spawn")
        stop, done = context.Event(), context.Value("d", 0.0)
        process = context.Process(target=load, args=(str(home), per_second, stop, done))
        process.start()
        terminal.settle(3.0)
        cpu, began = terminal.cpu_s(), time.monotonic()
        opened, swapped = prompts(terminal), screens(terminal)
        share = 100 * (terminal.cpu_s() - cpu) / (time.monotonic() - began)
        stop.set()
        process.join()
        rate = {"events_per_s": 3 * done.value, "console_cpu_percent": share}
        add("aiwm console", "prompt_loaded", opened, **rate)
        add("aiwm console", "other_screen_loaded", swapped, **rate)
    return rows


def many_rows() -> list[dict[str, Any]]:
    """CPU of a frame (new state, cursor moved, lines drawn) with a thousand and with a million matching rows, in turns, headless."""
    return asyncio.run(_many_rows())


async def _many_rows() -> list[dict[str, Any]]:
    import msgspec

    from aiwm_tui.app import ConsoleApp
    from aiwm_tui.live.history import Place
    from aiwm_tui.live.table import opened
    from aiwm_tui.screens.table_page import TablePage
    from engine.contract.errors import AiwmError
    from engine.contract.records import TaskRow
    from engine.contract.requests.session import ViewRows

    async def nowhere() -> Any:
        raise AiwmError("engine_unreachable", "none is needed")

    common: dict[str, Any] = {
        "queue": "etl",
        "state": "pending",
        "priority": 5,
        "attempt": 0,
        "max_attempts": 3,
        "by": "x",
    }

    def state(matched: int, turn: int) -> Any:
        tasks = [TaskRow(id=f"t-{at:05d}", submitted_ms=at, reason=f"change {turn}", **common) for at in range(108)]
        rows = [msgspec.to_builtins(task) for task in tasks]
        top = matched // 2
        return opened(
            ViewRows(
                view="v", seq=1, location=":tasks", table="tasks", rows=rows, top=top, matched=matched, total=matched
            )
        )

    app = ConsoleApp(nowhere, location=":tasks")
    costs: dict[int, list[float]] = {1_000: [], 1_000_000: []}
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        assert isinstance(app.page, TablePage)
        table = app.page.live_table
        for turn in range(60):
            for matched, cost in costs.items():
                fresh = state(matched, turn)
                table.restore(Place(":tasks", "t-00054").cursor, matched // 2 + 54, matched // 2 + 40)
                began = time.process_time()
                table.show(fresh, turn * 1000)
                table.move(1 if turn % 2 else -1)
                for y in range(table.size.height):
                    table.render_line(y)
                cost.append((time.process_time() - began) * 1000)
    few = middle(costs[1_000])
    return [
        {
            "what": f"{matched:,} rows",
            "measure": "frame_cpu_ms",
            "median": middle(cost),
            "n": len(cost),
            "ratio": middle(cost) / few,
        }
        for matched, cost in costs.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=7, help="starts of each program")
    parser.add_argument("--idle", type=float, default=10.0, help="seconds of doing nothing per start")
    parser.add_argument("--events", type=float, default=5000.0, help="events a second of the load")
    parser.add_argument(
        "--peers", type=Path, help="where the other consoles are or shall be installed; else for this run"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aiwm-") as scratch:
        home, folder = Path(scratch) / "home", arguments.peers or Path(scratch)
        peers = [peer for peer in _consoles.PEERS if _consoles.installed(peer, folder)]
        programs: list[Program] = [
            ("empty textual app", empty, "EMPTY-APP"),
            ("aiwm console", partial(console, home), "NEEDS YOU"),
        ]
        programs += [(peer.name, partial(_consoles.started, peer, folder), peer.word) for peer in peers]
        with running_engine(home):
            rows = starts(programs, arguments.n, arguments.idle)
            rows.append(connected(home, arguments.n))
            rows += keys(home, arguments.events / 3, peers, folder)
        beside = "; ".join(f"{peer.name} {_consoles.version(peer, folder)}" for peer in peers)
    rows += many_rows()
    write(
        "console",
        rows,
        ("textual", "rich", "msgspec"),
        f"ratio: against the empty Textual app of the same run, or against 1,000 rows; beside it: {beside}",
    )


if __name__ == "__main__":
    main()

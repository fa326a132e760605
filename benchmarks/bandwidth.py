"""How many bytes the console writes to its terminal while work runs steadily: as it is, and with `console.bandwidth = "small"`.

    python -m benchmarks.bandwidth [--seconds 20] [--rate 10]

One engine, one stream of tasks (echo, so that no model's speed decides), a terminal of 120x36; each screen is looked at for the same
time in both modes, one after the other."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks._report import write
from benchmarks._terminal import Terminal
from benchmarks.console import running_engine

SCREENS = {"overview": "1", "tasks": "2", "queues": "3"}


@contextmanager
def steady_work(home: Path, rate: float) -> Iterator[None]:
    """So many tasks a second, from a thread."""
    from engine.client import connect_blocking
    from engine.contract.requests.tasks import TaskSubmit

    ended = threading.Event()

    def submit() -> None:
        with connect_blocking(home, spawn=False, work=True) as client:
            number = 0
            while not ended.wait(1 / rate):
                number += 1
                client.call(TaskSubmit(queue="echo", payload={"text": f"message {number}"}))

    thread = threading.Thread(target=submit)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def bytes_a_second(home: Path, mode: str, key: str, seconds: float) -> float:
    """What one screen writes, after it has settled."""
    environment = {**os.environ, "AIWM_CONSOLE__BANDWIDTH": mode}
    command = [sys.executable, "-P", "-m", "aiwm_tui.main", "--home", str(home)]
    with Terminal(command, environment=environment) as terminal:
        terminal.until("live")
        terminal.type(key.encode())
        terminal.settle(3)
        return terminal.settle(seconds) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        rows = []
        with running_engine(home), steady_work(home, options.rate):
            time.sleep(1)
            for screen, key in SCREENS.items():
                full, small = (bytes_a_second(home, mode, key, options.seconds) for mode in ("full", "small"))
                share = round(small / full, 3)
                rows.append({"screen": screen, "full B/s": round(full), "small B/s": round(small), "ratio": share})
    write("bandwidth", rows, notes=f"{options.rate:g} tasks a second, {options.seconds:g} s each, 120x36")


if __name__ == "__main__":
    main()

"""A real shell completes with the ids of a real engine: keys go in through a terminal, what is listed comes out of it."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import engines
from tests.support.shell import shell as run


class Typed:
    """A shell on a terminal of its own."""

    def __init__(self, master: int) -> None:
        self._master = master
        self.seen = ""

    def type(self, text: str) -> None:
        self.seen = ""
        os.write(self._master, text.encode())

    def until(self, *words: str, timeout_s: float = 20.0) -> str:
        """Read until all of these were shown."""
        deadline = time.monotonic() + timeout_s
        while not all(word in self.seen for word in words):
            ready, _, _ = select.select([self._master], [], [], 0.1)
            if ready:
                self.seen += os.read(self._master, 65536).decode(errors="replace")
            assert time.monotonic() < deadline, f"{words} never shown, but: {self.seen!r}"
        return self.seen


@contextmanager
def _shell(command: list[str], home: Path, folder: Path) -> Iterator[Typed]:
    path = folder / "bin"
    path.mkdir()
    program = path / "aiwm"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m aiwm_tui.main "$@"\n')
    program.chmod(0o755)
    environment = dict(os.environ, PATH=f"{path}:{os.environ['PATH']}", AIWM_HOME=str(home), TERM="dumb", COLUMNS="120")
    environment |= {"HOME": str(folder), "ZDOTDIR": str(folder), "PS1": "$ ", "HISTFILE": ""}
    master, slave = pty.openpty()
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
    )
    os.close(slave)
    try:
        yield Typed(master)
    finally:
        process.kill()
        process.wait()
        os.close(master)


def test_bash(home: Path, tmp_path: Path) -> None:
    with engines.engine(home):
        for number in (1, 2):
            run(home, "task", "submit", "demo", "--prompt", f"What is {number} + 1?", "--wait")
        with _shell(["bash", "--norc", "--noprofile", "-i"], home, tmp_path) as typed:
            typed.type('eval "$(aiwm completion bash)"; echo re""ady\n')
            typed.until("ready")
            typed.type("aiwm task sho\t")
            typed.until("aiwm task show ")
            # The first tab adds what all have in common, the next ones list them with their states.
            typed.type("t\t\t\t")
            typed.until("t-10001  (completed · demo", "t-10002  (completed · demo")
            typed.type("1\t")
            typed.until("1 ")
            typed.type("\x15aiwm view ':queues state:p\t")
            typed.until("state:paused'")
            typed.type("\x15aiwm queue pause d\t")
            typed.until("emo ")


@pytest.mark.skipif(not shutil.which("zsh"), reason="no zsh here")
def test_zsh(home: Path, tmp_path: Path) -> None:
    with engines.engine(home), _shell(["zsh", "-d", "-f", "-i"], home, tmp_path) as typed:
        typed.type('autoload -Uz compinit; compinit -u -D; eval "$(aiwm completion zsh)"; echo re""ady\n')
        typed.until("ready")
        typed.type("aiwm queue show \t\t")
        typed.until("demo  -- open", "echo  -- open")
        typed.type("d\t")
        typed.until("demo")


@pytest.mark.skipif(not shutil.which("fish"), reason="no fish here")
def test_fish(home: Path, tmp_path: Path) -> None:
    with engines.engine(home):
        script = tmp_path / "aiwm.fish"
        script.write_text(run(home, "completion", "fish").out)
        environment = dict(os.environ, AIWM_HOME=str(home), HOME=str(tmp_path))
        line = f"function aiwm; {sys.executable} -P -m aiwm_tui.main $argv; end; source {script}; complete -C 'aiwm queue show '"
        ran = subprocess.run(
            ["fish", "--no-config", "-c", line], capture_output=True, text=True, check=True, env=environment
        )
        assert set(ran.stdout.splitlines()) == {"demo\topen", "echo\topen"}

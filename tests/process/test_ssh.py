"""`--ssh`: a stand-in for ssh runs the words on this machine, as a shell would on the other one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from aiwm_tui.cli.remote import ssh_command
from engine.client import connect_through
from engine.contract.errors import AiwmError, Code
from engine.contract.requests.fleet import QueueList
from tests.support.engines import engine
from tests.support.shell import shell

SSH = """#!/bin/sh
# options and the host, then --, then one word for a shell
while [ "$1" != "--" ]; do shift; done
shift
exec sh -c "$1"
"""
REFUSED = """#!/bin/sh
echo "ssh: connect to host anvil port 22: Connection refused" >&2
exit 255
"""


@pytest.fixture
def unreachable(ssh: Path) -> None:
    ssh.write_text(REFUSED)


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "ssh"
    program.write_text(SSH)
    program.chmod(0o755)
    monkeypatch.setenv("AIWM_SSH", str(program))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return program


async def test_the_protocol_goes_through_ssh(ssh: Path, home: Path) -> None:
    with engine(home):
        command = ssh_command("ana@anvil", ["engine", "attach", "--stdio"], home)
        async with await connect_through(command, name="console") as client:
            assert client.welcome is not None
            assert client.welcome.home == str(home)
            assert "demo" in [queue.id for queue in await client.call(QueueList())]


async def test_a_host_that_cannot_be_reached_says_what_ssh_said(unreachable: None, home: Path) -> None:
    with pytest.raises(AiwmError, match="Connection refused") as caught:
        await connect_through(ssh_command("anvil", ["engine", "attach", "--stdio"], home))
    assert caught.value.code == Code.engine_unreachable


def test_other_commands_run_there(ssh: Path, home: Path) -> None:
    with engine(home):
        answer = shell(home, "--ssh", "anvil", "queue", "list", "--json").json
    assert answer["kind"] == "queues"


@pytest.mark.parametrize("host", ["-oProxyCommand=touch x", "", "a b", "a\n-b"])
def test_a_host_is_never_an_option(host: str) -> None:
    with pytest.raises(AiwmError, match="is no host"):
        ssh_command(host, ["task", "list"])


def test_words_reach_the_other_shell_as_they_were() -> None:
    words = ["task", "submit", "demo", "--prompt", "what is $(1+1) `x` 'y' \"z\" ; rm"]
    command = ssh_command("anvil", words)
    import shlex

    assert shlex.split(command[-1]) == ["aiwm", *words]


def test_a_program_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIWM_SSH", "ssh 'unclosed")
    with pytest.raises(AiwmError, match="AIWM_SSH is no command") as told:
        ssh_command("anvil", ["task", "list"])
    assert told.value.info.field == "AIWM_SSH"
    monkeypatch.setenv("AIWM_SSH", " ")
    assert ssh_command("anvil", ["task", "list"])[0] == "ssh"

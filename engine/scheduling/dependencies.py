"""What becomes of a task that waits for others when one of them ends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from engine.contract.errors import Code
from engine.contract.ids import task_id
from engine.contract.states import TaskState

Unmet = Sequence[tuple[int, TaskState]]
"""The tasks that one waits for and that have not completed: (seq, state)."""


class Blocked(msgspec.Struct, frozen=True, gc=False):
    """It goes on waiting for `count` others, all of which can still complete."""

    seq: int
    count: int


class Release(msgspec.Struct, frozen=True, gc=False):
    """Everything it waited for has completed: commit it as not blocked, then feed TaskSubmitted."""

    seq: int


class FailDependent(msgspec.Struct, frozen=True, gc=False):
    """Something it waited for ended without completing: commit it as failed with this code. Its own dependents follow from that end."""

    seq: int
    cause: int
    message: str
    code: Code = Code.dependency_failed


Follow = Blocked | Release | FailDependent


def judge_dependent(seq: int, unmet: Unmet) -> Follow:
    """What becomes of a waiting task, from what it waits for: at its submit, when it is tried again, and after a restart."""
    lost = next(((other, state) for other, state in unmet if state.ended and state is not TaskState.completed), None)
    if lost is not None:
        other, state = lost
        return FailDependent(seq, other, f"it waited for {task_id(other)}, which is {state.value}")
    count = sum(1 for _, state in unmet if state is not TaskState.completed)
    return Blocked(seq, count) if count else Release(seq)


def after_end(dependents: Iterable[tuple[int, Unmet]]) -> list[Follow]:
    """What follows for the waiting tasks that wait for one that just ended (its end is among what `unmet` says); those that go on waiting
    are left out. In order of seq, so that equal histories are equal."""
    found = (judge_dependent(seq, unmet) for seq, unmet in sorted(dependents, key=lambda one: one[0]))
    return [follow for follow in found if not isinstance(follow, Blocked)]

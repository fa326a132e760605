"""A task while the scheduler holds it in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from engine.scheduling.inputs import TaskRef

if TYPE_CHECKING:
    from engine.scheduling.definitions import Definition
    from engine.scheduling.pools import Instance
    from engine.scheduling.replicas import Replica
    from engine.scheduling.retry import Verdict
    from engine.scheduling.routing import Score

READY: Final = 0  # in the window of its class
LATER: Final = 1  # waits for a time
PROMOTING: Final = 2  # its time came; its row is being committed as pending
RUNNING: Final = 3  # from StartTask to TaskEnded

ASKED: Final = 1  # its adapters were asked for while it waited
ASKED_FIRST: Final = 2  # and when it was the first in line


class Task:
    """A row and what has become of it here."""

    __slots__ = (
        "asked",
        "attempt",
        "began_ns",
        "cancelling",
        "crashes",
        "definition",
        "due_ms",
        "due_ns",
        "instance",
        "passed_ns",
        "ref",
        "replica",
        "route",
        "state",
        "verdict",
    )

    def __init__(self, ref: TaskRef) -> None:
        self.ref = ref
        self.attempt = ref.attempt
        self.crashes = ref.crashes
        self.state = READY
        self.due_ms: int | None = ref.due_ms
        self.due_ns: int | None = None  # a retry's time on the monotonic clock
        self.instance: Instance | None = None
        self.replica: Replica | None = None  # whose slot it holds
        self.definition: Definition | None = None  # in whose windows its calls are expected
        # What the replicas had to say for themselves when it started, if there were several.
        self.route: tuple[tuple[str, Score], ...] = ()
        self.asked = 0  # whether its adapters were asked for
        self.began_ns = 0  # when it took that slot
        self.passed_ns: int | None = None  # when another task first went before it because its adapters were at hand
        self.cancelling = False
        self.verdict: Verdict | None = None  # what is being committed about the running attempt

    def __lt__(self, other: object) -> bool:
        # Only ever asked for two heap entries of one row, from before and after it was left to the disk.
        return False

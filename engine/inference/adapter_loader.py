"""The thread that reads and uploads adapters while the stepper steps: one piece of work at a time, what requests wait for first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")
Outcome = Callable[[], None]


class Loader(Protocol):
    """What `adapter_loads` needs of the thread: work by the digest of its adapter, at most one piece for each at a time."""

    def ask(self, digest: str, work: Callable[[], T], then: Callable[[T | Exception], None], *, urgent: bool) -> None:
        """Do this, then call `then` with its result or with what it raised, on the stepper's thread."""

    def hurry(self, digest: str) -> None:
        """A request waits for it now."""

    def forget(self, digest: str) -> bool:
        """Do not do it, if it has not been begun; `then` is then never called. Whether that was in time."""


class SettlingLoader(Loader, Protocol):
    def settle(self) -> None:
        """Forget what has not been begun and wait for the end of what has: from now on nothing touches the backend."""


class LoaderThread(threading.Thread):
    """A `SettlingLoader`. `hand_over` runs a callable on the stepper's thread; all other methods are called there."""

    def __init__(self, hand_over: Callable[[Outcome], None]) -> None:
        super().__init__(name="loader", daemon=True)
        self._hand_over = hand_over
        self._changed = threading.Condition()
        self._urgent: OrderedDict[str, Callable[[], Outcome]] = OrderedDict()
        self._rest: OrderedDict[str, Callable[[], Outcome]] = OrderedDict()
        self._busy = False
        self.start()

    def ask(self, digest: str, work: Callable[[], T], then: Callable[[T | Exception], None], *, urgent: bool) -> None:
        def done() -> Outcome:
            try:
                result: T | Exception = work()
            except Exception as error:
                result = error
            return lambda: then(result)

        with self._changed:
            (self._urgent if urgent else self._rest)[digest] = done
            self._changed.notify_all()

    def hurry(self, digest: str) -> None:
        with self._changed:
            work = self._rest.pop(digest, None)
            if work is not None:
                self._urgent[digest] = work

    def forget(self, digest: str) -> bool:
        with self._changed:
            return (self._urgent.pop(digest, None) or self._rest.pop(digest, None)) is not None

    def settle(self) -> None:
        with self._changed:
            self._urgent.clear()
            self._rest.clear()
            self._changed.wait_for(lambda: not self._busy)

    def run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._urgent or self._rest)
                _, work = (self._urgent or self._rest).popitem(last=False)
                self._busy = True
            outcome = work()
            self._hand_over(outcome)
            del work, outcome  # what they hold may be large, and the next piece may be long in coming
            with self._changed:
                self._busy = False
                self._changed.notify_all()

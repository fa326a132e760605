"""An engine for the monkey: definitions of every kind, real tasks in every state, something in every table."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiwm_tui.demo_result import read_inbox, sample
from engine.client import BlockingClient
from engine.contract.definitions import TaskTemplate
from engine.contract.errors import AiwmError
from engine.contract.records.knowledge import LessonContext
from engine.contract.requests.batches import BatchAdd, BatchItem
from engine.contract.requests.definitions import TemplateCreate
from engine.contract.requests.fleet import QueuePause
from engine.contract.requests.instances import InstanceSpawn
from engine.contract.requests.lessons import LessonSubmit
from engine.contract.requests.memory import ModelLoad
from engine.contract.requests.session import EngineStatus
from engine.contract.requests.tasks import TaskCancel, TaskRun, TaskSubmit
from engine.resources import inbox
from tests.support.engines import Engine, make_queue, wait_until
from tests.support.house import House

SHIPPED = Path(__file__).parents[3] / "engine" / "inference" / "shipped" / "adapters"
HOSTILE = (
    "[bold red]x[/] \x1b[31mred\x1b[2J\x1b]0;owned\x07 \u202eevil e\u0301\u0302 漢字👩‍👩‍👧 \x00 one\ntwo\r\t"
    + "y" * 3_000
)


class MonkeyHouse:
    """An engine that can be stopped by the console and is then started again."""

    def __init__(self, base: Path, environment: dict[str, str]) -> None:
        self.base, self.home, self._environment = base, base / "home", environment
        self.engine = Engine(self.home, environment=environment)

    def open(self) -> None:
        """Make everything and put it to work."""
        with self.engine.client() as client:
            House(self.engine, client, self.base).build_plain()
            self._furnish(client)
            self._put_to_work(client)

    def up(self) -> None:
        """See to it that an engine runs: a console may have stopped it, or told it to stop when its tasks have ended."""
        wait_until(self._serves, "an engine that serves", timeout_s=60)

    def _serves(self) -> bool:
        if self.engine.process.poll() is not None:
            self.engine = Engine(self.home, environment=self._environment)
        try:
            with self.engine.client() as client:
                return not client.call(EngineStatus(), timeout_s=20).text.startswith("stopping")
        except AiwmError:
            return False

    def close(self) -> None:
        if self.engine.process.poll() is None:
            self.engine.process.kill()
        self.engine.process.wait()

    def _furnish(self, client: BlockingClient) -> None:
        for version, name in ((1, "house-words"), (2, "ticket-labels")):
            shutil.copytree(SHIPPED / name, self.home / "adapters" / f"tone@v{version}")
        for name in ("spare", "shut"):
            make_queue(client, name, instances=1)
        client.call(QueuePause(name="shut", reason=HOSTILE[:150]))
        client.call(TemplateCreate(definition=TaskTemplate(name="greet", queue="demo", defaults={"prompt": "2 + 2"})))
        client.call(
            TemplateCreate(definition=TaskTemplate(name="strict", queue="demo", payload_schema={"required": ["a"]}))
        )
        client.call(
            LessonSubmit(title="IBAN", insight=HOSTILE[:900], context=LessonContext(queue="demo"), confidence=0.7)
        )
        client.call(InstanceSpawn(definition="nano"))
        client.call(ModelLoad(name="aiwm-nano"), timeout_s=60)

    def _put_to_work(self, client: BlockingClient) -> None:
        messages = [message.payload() for message in sample(read_inbox(inbox()), 24)]
        items = [BatchItem(index=place, payload=payload) for place, payload in enumerate(messages)]
        client.call(BatchAdd(batch="b-1", queue="demo", items=items))
        client.call(
            TaskSubmit(queue="demo", payload={"prompt": "Write something long about a river.", "max_tokens": 400})
        )
        for _ in range(30):
            client.call(TaskSubmit(queue="shut", payload={"text": HOSTILE}))
        # One that fails for good, one for later, one parked until a person decides, one cancelled.
        client.call(TaskSubmit(queue="boss", payload={"calls": 5, "text": HOSTILE}, max_attempts=1))
        client.call(TaskSubmit(queue="echo", payload={"text": HOSTILE}, due_ms=4_000_000_000_000))
        victim = client.call(TaskSubmit(queue="shut")).id
        client.call(TaskSubmit(queue="boss", payload={"calls": [{"tool": "task_cancel", "args": {"ids": [victim]}}]}))
        client.call(TaskCancel(ids=(client.call(TaskSubmit(queue="shut")).id,), reason=HOSTILE[:200]))
        assert client.call(TaskRun(queue="echo", payload={"text": HOSTILE})).error is None

    def feed(self, client: BlockingClient, number: int) -> None:
        """A little more work; what the monkey has deleted or shut takes none."""
        for queue, payload in (("echo", {"text": f"{number} {HOSTILE[:80]}"}), ("demo", {"prompt": f"{number} + 25"})):
            try:
                client.call(TaskSubmit(queue=queue, payload=payload), timeout_s=20)
            except AiwmError:
                continue


@contextmanager
def monkey_house(base: Path, environment: dict[str, str]) -> Iterator[MonkeyHouse]:
    """A furnished house whose engine is gone in the end."""
    house = MonkeyHouse(base, environment)
    try:
        house.open()
        yield house
    finally:
        house.close()

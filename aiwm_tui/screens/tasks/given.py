"""What the page of a task asks for beside the task: the definitions that its settings come from, and what is usual for tasks like it."""

from __future__ import annotations

from aiwm_tui.live.link import Link
from aiwm_tui.screens.tasks.settings import Given
from aiwm_tui.screens.tasks.timeline import Usual, usual
from engine.contract.errors import AiwmError
from engine.contract.query import Location, Op, Term
from engine.contract.records import TaskRow
from engine.contract.requests.definitions import TemplateShow
from engine.contract.requests.fleet import QueueShow, WorkerShow
from engine.contract.requests.session import ViewRead

_LIKE_IT = 30


async def given(link: Link, row: TaskRow) -> Given:
    """The definitions as they are now; one that is no more is left out."""
    found = Given()
    try:
        queue = (await link.call(QueueShow(name=row.queue))).definition
        worker = (await link.call(WorkerShow(name=row.definition))).definition if row.definition else None
        template = (await link.call(TemplateShow(name=row.template))).definition if row.template else None
        found = Given(worker=worker, template=template, queue=queue)
    except AiwmError:
        # Definitions come and go; what a task ran with is not lost by that, only where it came from.
        pass
    return found


async def known_of(link: Link, row: TaskRow) -> Usual | None:
    """The medians of the last tasks of its queue and definition that completed; None for a task that has ended."""
    if row.ended_ms is not None or row.definition is None:
        return None
    same = (("queue", row.queue), ("definition", row.definition), ("state", "completed"))
    where = Location("records", None, tuple(Term(Op.any_of, (value,), name) for name, value in same))
    answer = await link.call(ViewRead(location=str(where), size=_LIKE_IT))
    return usual(answer.rows)

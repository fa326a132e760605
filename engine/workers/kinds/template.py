"""The kind `template`: gives its payload back. For first steps, tests and measuring the road there and back."""

from __future__ import annotations

from typing import ClassVar

from engine.workers.template import TaskInput, TaskOutput, WorkerContext, WorkerTemplate


class TemplateWorker(WorkerTemplate):
    """Answers every task with its own payload."""

    kind: ClassVar[str] = "template"
    idempotent: ClassVar[bool] = True

    async def process(self, task: TaskInput, context: WorkerContext) -> TaskOutput:  # noqa: ARG002
        return TaskOutput(result=task.payload)

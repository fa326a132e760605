"""`aiwm lesson`."""

from __future__ import annotations

import typer

from aiwm_tui.cli.answers import plain, show
from aiwm_tui.cli.command import Cli, command, group
from aiwm_tui.cli.defining import Yes
from aiwm_tui.cli.output import confirm
from engine.contract.requests import lessons
from engine.contract.requests.base import result_type


def add(app: typer.Typer) -> None:
    noun = group(app, "lesson", "Lessons: what earlier tasks taught, put into the prompts of matching ones.")
    for request in (lessons.LessonList, lessons.LessonShow, lessons.LessonQuery, lessons.LessonSubmit):
        plain(noun, request)
    command(noun, "delete", lessons.LessonDelete)(_delete)


def _delete(cli: Cli, request: lessons.LessonDelete, *, yes: Yes = False) -> None:
    """Delete a lesson with all its versions.

    It needs a yes: --yes where nobody can be asked. JSON: kind deleted."""
    detail = cli.call(lessons.LessonShow(id=request.id))
    confirm(cli.output, f'Delete lesson {detail.row.id} "{detail.row.title}"?', yes=yes)
    show(cli.output, result_type(lessons.LessonDelete), cli.call(request))

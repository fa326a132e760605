"""`aiwm supervisor` and `aiwm insight`."""

from __future__ import annotations

import typer

from aiwm_tui.cli.answers import plain
from aiwm_tui.cli.command import group
from engine.contract.requests import supervisors


def add(app: typer.Typer) -> None:
    noun = group(app, "supervisor", "Supervisors: rules and agents that rate what workers did.")
    for request in (
        supervisors.SupervisorList,
        supervisors.SupervisorShow,
        supervisors.SupervisorPending,
        supervisors.SupervisorReview,
        supervisors.SupervisorFeedback,
    ):
        plain(noun, request)
    noun = group(app, "insight", "Insights: what workers note about their own work.")
    plain(noun, supervisors.InsightList)
    plain(noun, supervisors.InsightLog)

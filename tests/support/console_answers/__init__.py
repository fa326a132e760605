"""What the stand-in under the console answers, one module a noun; importing this registers all of them."""

from __future__ import annotations

from tests.support.console_answers import agents, definitions, engine, fleet, home, inference, tasks

__all__ = ["agents", "definitions", "engine", "fleet", "home", "inference", "tasks"]

"""Where the models and adapters lie that ship with aiwm."""

from __future__ import annotations

from pathlib import Path

SHIPPED = Path(__file__).parent / "shipped"

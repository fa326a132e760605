"""Points in time that have passed, as people type them."""

from __future__ import annotations

import time

from engine.contract.errors import AiwmError, Code
from engine.contract.query import time_ms


def past_ms(text: str | None, option: str) -> int | None:
    """`22:00` (the last one), `1h` ago, `yesterday`, a date, as Unix ms; None stays None."""
    if text is None:
        return None
    try:
        return round(time_ms(text, time.time_ns() // 1_000_000))
    except ValueError as error:
        raise AiwmError(
            Code.bad_request,
            f"{option}: {error}",
            field=option.removeprefix("--"),
            fix="22:00, 1h, yesterday, 2026-11-20",
        ) from None

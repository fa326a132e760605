"""What people type as values: JSON with the place of a mistake, durations, points in time to come."""

from __future__ import annotations

import json
import math
import os
import re
from datetime import datetime, timedelta
from typing import Any

from engine.contract.errors import AiwmError, Code
from engine.contract.query import span_ms


def json_value(text: str, option: str) -> Any:
    """JSON as typed. `bad_request` names the option and the column of the mistake."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        where = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno}, column {error.colno}"
        raise _bad(
            option, f"{option} is not JSON: {_reason(error.msg)} at {where}", """such as '{"prompt": "…"}'"""
        ) from None
    except (ValueError, RecursionError) as error:
        raise _bad(option, f"{option} is not JSON: {error}", None) from None


def absolute_path(path: str) -> str:
    """A path as typed, from the root on: the engine stands in another directory."""
    return os.path.abspath(os.path.expanduser(path))


def finite(value: float, option: str) -> float:
    """A number that is one: nan would be nothing on its way to the engine."""
    if not math.isfinite(value):
        raise AiwmError(Code.bad_request, f"{option} is {value}, which is no number to use", field=option)
    return value


def json_object(text: str, option: str) -> dict[str, Any]:
    """A JSON object as typed."""
    value = json_value(text, option)
    if not isinstance(value, dict):
        kind = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}.get(type(value), "a number")
        raise _bad(option, f"{option} must be a JSON object, but is {kind}", """such as '{"prompt": "…"}'""")
    return value


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON number")


def _reason(message: str) -> str:
    return message[0].lower() + message[1:]


def duration_ms(text: str, option: str) -> int:
    """`500ms`, `30s`, `5m`, `1h30m`, or a plain number of seconds, in ms."""
    try:
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return round(float(text) * 1000)
        return round(span_ms(text))
    except ValueError as error:
        raise _bad(option, f"{option}: {error}", "30s, 5m, 1h30m, or seconds") from None


def future_ms(text: str, option: str, now_ms: int) -> int:
    """A point in time to come, in Unix ms: `30s` or `2h` from now, `02:30` (the next one), or an ISO date and time."""
    now = datetime.fromtimestamp(now_ms / 1000)
    clock = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", text)
    if clock:
        at = now.replace(hour=int(clock[1]), minute=int(clock[2]), second=0, microsecond=0)
        return round((at if at > now else at + timedelta(days=1)).timestamp() * 1000)
    if re.fullmatch(r"\d{4}-.*", text):
        try:
            return round(datetime.fromisoformat(text).timestamp() * 1000)
        except ValueError:
            pass
    else:
        try:
            return now_ms + round(span_ms(text))
        except ValueError:
            pass
    raise _bad(option, f'{option}: "{text[:40]}" is not a time to come', "such as 30s, 2h, 02:30 or 2026-11-20T02:30")


def _bad(field: str, message: str, fix: str | None) -> AiwmError:
    return AiwmError(Code.bad_request, message, field=field.removeprefix("--"), fix=fix)


_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([kmgt]?)b?")


def size_bytes(text: str, option: str) -> int:
    """`4G`, `500M`, `16k`, or a plain number, of bytes or tokens; k is 1,024, as sizes are shown."""
    found = _SIZE.fullmatch(text.strip().lower())
    if found is None:
        message = f'{option}: "{text[:40]}" is no number'
        raise AiwmError(Code.bad_request, message, field=option.removeprefix("--"), fix="such as 4G, 500M, 16k")
    return round(float(found[1]) * _UNITS[found[2]])

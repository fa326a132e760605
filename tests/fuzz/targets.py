"""What is fuzzed, shared by the quick tests (test_fuzz.py) and by `make fuzz` (run.py): only AiwmErrors come out, nothing hangs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from hypothesis import strategies as st

from engine.contract.errors import AiwmError, Code
from engine.contract.query import matches, parse, sort_records
from tests.fuzz import shapes
from tests.fuzz.house import APART, Broken, House
from tests.support.rows import instance_row, model_row, pool_row, queue_row, task_row, worker_row

SECONDS = 2.0
ROWS: dict[str, list[Any]] = {
    "tasks": [task_row(number, reason="a" * 200, queue=queue) for number, queue in enumerate(("demo", "a" * 60, "é"))],
    "queues": [queue_row("a" * 60), queue_row("b")],
    "pools": [pool_row("a" * 60)],
    "instances": [instance_row(1), instance_row(2)],
    "models": [model_row()],
    "workers": [worker_row("a" * 60)],
}


@cache
def house() -> House:
    return House()


def check_request(request: tuple[str, Any]) -> None:
    """One request with parameters of about its shape."""
    method, params = request
    house().ask(method, json.dumps(params).encode())


def check_payload(payload: Any, schema: Any) -> None:
    """A template with any schema, and tasks with any payload for it."""
    definition = {"name": "fuzzed", "queue": "echo", "schema": schema}
    house().ask("template.delete", b'{"name":"fuzzed"}')
    house().ask("template.create", json.dumps({"definition": definition}).encode())
    house().ask("task.submit", json.dumps({"queue": "echo", "template": "fuzzed", "payload": payload}).encode())


def check_bundle(document: Any) -> None:
    """A bundle as text: what a load would do, and the load itself, which afterwards must be exportable and loadable again."""
    text = document if isinstance(document, str) else json.dumps(document)
    for method, more in (("bundle.diff", {}), ("bundle.load", {"policy": "load-valid"})):
        house().ask(method, json.dumps({"bundle": text, "keep_others": True, **more}).encode())
    exported = house().ask("bundle.export", b"{}")
    again = house().ask("bundle.diff", json.dumps({"bundle": json.dumps(exported["bundle"])}).encode())
    if isinstance(again, AiwmError) or again["errors"]:
        raise Broken(f"what was loaded cannot be loaded again: {again}; from {text[:2000]}")


def check_location(text: str) -> None:
    """A location: parsed or refused in words, its normal form is one, and it decides about any row, quickly."""
    started = time.perf_counter()
    try:
        location = parse(text)
        rows = ROWS.get(location.table, [])
        for row in rows:
            matches(location, row, 1_790_000_000_000)
        sort_records(location, rows)
    except AiwmError as error:
        if error.code != Code.bad_location:
            raise Broken(f"{text!r} was refused with {error.code}") from error
        return
    normal = f":{location.table}{'/' + location.item if location.item else ''} {location.filter_text()}"
    if parse(normal).filter_text() != location.filter_text():
        raise Broken(f"{text!r} has two normal forms")
    if time.perf_counter() - started > SECONDS:
        raise Broken(f"{text!r} takes too long")


def check_location_read(text: str) -> None:
    """The same location against the database."""
    house().ask("view.read", json.dumps({"location": text, "size": 20}).encode())


def check_line(data: bytes) -> None:
    """Bytes on a connection."""
    if any(name.encode() in data for name in (*APART, *house().missing)):
        return
    house().say(data)


class Target(NamedTuple):
    """`check` raises on whatever must not be; `values` makes what it is given."""

    values: st.SearchStrategy[Any]
    check: Callable[[Any], None]


TARGETS: dict[str, Target] = {
    "request": Target(shapes.REQUEST, check_request),
    "payload": Target(st.tuples(shapes.JSON, shapes.SCHEMA), lambda pair: check_payload(*pair)),
    "bundle": Target(shapes.BUNDLE, check_bundle),
    "bundle-text": Target(
        st.text(max_size=40) | shapes.BUNDLE.map(json.dumps).map(lambda text: text[:-3]), check_bundle
    ),
    "location": Target(shapes.LOCATION | shapes.FILTER.map(":tasks {}".format) | st.text(max_size=30), check_location),
    "location-read": Target(shapes.LOCATION | shapes.FILTER.map(":tasks {}".format), check_location_read),
    "line": Target(shapes.LINES, check_line),
    "bytes": Target(st.binary(max_size=200), check_line),
}

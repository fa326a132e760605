"""The seeds' names of submit's arguments and of a work item's fields: read as ours, so that what was written for them still works."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from engine.contract.errors import NOT_JSON

_FIELDS = {
    "queuename": "queue",
    "workitemdefinitionname": "template",
    "payloadoverridejson": "payload",
    "payloadoverride": "payload",
    "datasourcerefsoverridelist": "sources",
    "datasourcerefs": "sources",
    "priorityoverride": "priority",
    "supervisoryairef": "supervisor",
    "targetworkercriteriaoverridejson": "criteria",
    "targetworkercriteria": "criteria",
}
_CRITERIA = {"definitionname": "definition", "capabilities": "capabilities"}


def of_submit(params: Mapping[str, Any]) -> dict[str, Any]:
    """A submit's parameters with the seeds' names replaced by ours; others stay. A name of ours that is there too wins. JSON in text
    (`payloadOverrideJSON`) is read; `null` is not given."""
    made: dict[Any, Any] = {}
    renamed: dict[str, Any] = {}
    for name, value in params.items():
        ours = _FIELDS.get(name.replace("_", "").lower())
        if ours is None:
            made[name] = value
        elif value is not None:
            renamed[ours] = _read(value) if ours in ("payload", "criteria", "sources") else value
    criteria: Any = renamed.pop("criteria", None)
    if isinstance(criteria, Mapping):
        for key, value in criteria.items():
            renamed[_CRITERIA.get(str(key).replace("_", "").lower(), str(key))] = value
    elif criteria is not None:
        renamed["criteria"] = criteria
    return renamed | made


def _read(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except NOT_JSON:
        return value

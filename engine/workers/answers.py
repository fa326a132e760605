"""Answers by a JSON Schema: the schema as a request or a definition gives it, and what came back, held against it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from engine.contract.errors import NOT_JSON, AiwmError, Code
from engine.inference.constrained.schema import check_size

if TYPE_CHECKING:
    from jsonschema_rs import Validator

    from engine.ports import Outcome

_TAIL = 40
"""Characters of a broken answer that its error shows."""


def check_schema(schema: dict[str, Any], field: str, code: Code = Code.payload_invalid) -> None:
    """Refuse what is no JSON Schema (`code`), refers to elsewhere, or is too large (schema_unsupported)."""
    text = check_size(schema, field)
    try:
        _validator(text)
    except NoSchema as error:
        place = field + _path(error.path)
        fix = "a JSON Schema (2020-12) that stands alone"
        raise AiwmError(code, f"{place} is no JSON Schema: {error}", field=place, fix=fix) from None


def data_in(outcome: Outcome, schema: dict[str, Any]) -> Any:
    """The answer as data. Raises `output_not_json` for one that broke off or is no JSON, `output_invalid` for one that is not of its
    schema: both may go well another time."""
    tail = _tail(outcome.text)
    if outcome.reason == "length":
        raise AiwmError(
            Code.output_not_json,
            f"the answer broke off at {outcome.tokens_out:,} tokens; it ends in {tail}",
            field="max_tokens",
            retryable=True,
        )
    try:
        data = msgspec.json.decode(outcome.text)
    except NOT_JSON as error:
        message = f"the answer is not JSON: {error}; it ends in {tail}"
        raise AiwmError(Code.output_not_json, message, retryable=True) from None
    for violation in _validator(msgspec.json.encode(schema)).iter_errors(data):
        path = _path(violation.instance_path)
        message = f"the answer is not of its schema: data{path}: {violation.message[:300]}"
        raise AiwmError(Code.output_invalid, message, field=f"data{path}", retryable=True)
    return data


class NoSchema(ValueError):
    """What is wrong with a schema, and where in it."""

    def __init__(self, message: str, path: Sequence[str | int]) -> None:
        super().__init__(message)
        self.path = path


@lru_cache(maxsize=64)
def _validator(text: bytes) -> Validator:
    """Raises NoSchema."""
    import jsonschema_rs

    try:
        return jsonschema_rs.validator_for(text.decode(), retriever=_refuse)
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        message = str(getattr(error, "message", None) or error)
        raise NoSchema(message.partition("\n")[0][:300], getattr(error, "instance_path", ())) from None


def _refuse(uri: str) -> Any:
    raise ValueError(f"{uri[:80]} is not part of this schema, and nothing is fetched")


def _path(steps: Sequence[str | int]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)


def _tail(text: str) -> str:
    end = " ".join(text[-_TAIL:].split()).replace("”", "'")
    return f"“{'…' if len(text) > _TAIL else ''}{end}”"

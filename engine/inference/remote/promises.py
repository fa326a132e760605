"""Whether an answer is what its schema says. A server may take a schema and not keep to it: we look ourselves."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.contract.errors import NOT_JSON, AiwmError, Code
from engine.inference.remote.refusals import Server, cut


def check(server: Server, schema: dict[str, Any], text: str) -> None:
    """Raises remote_failed naming where, or schema_unsupported."""
    import jsonschema_rs

    try:
        document = msgspec.json.decode(text)
        validator = jsonschema_rs.Draft202012Validator(schema, retriever=_never)
        wrong = next(validator.iter_errors(document), None)
    except NOT_JSON:
        raise cut(server, "was asked for JSON after a schema and answered something else") from None
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError, TypeError) as error:
        message = f"the schema is none: {str(error).partition(chr(10))[0][:200]}"
        raise AiwmError(Code.schema_unsupported, message, field="schema") from None
    if wrong is not None:
        where = "/".join(str(part) for part in wrong.instance_path) or "its top"
        raise cut(server, f"was asked for JSON after a schema; its answer does not satisfy it at {where[:100]}")


def _never(uri: str) -> Any:
    raise ValueError(f"{uri} lies elsewhere, and schemas are never fetched")

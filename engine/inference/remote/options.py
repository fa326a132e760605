"""What a definition may say about a server beyond its address: `metadata.remote` of a model, `options` of a worker (they win)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from engine.contract.definitions import AdapterUse
from engine.contract.errors import AiwmError, Code


class RemoteOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`body` are fields that are sent as they stand (`{"reasoning_effort": "low"}`), `omit` names fields that are not sent because the
    server refuses them. `adapters` says that the server has our adapters: under their own names (`model`), or under those of the
    table; a request with one adapter then names it as its model, as vLLM and TabbyAPI take it. Our numbers of versions (`@v3`) mean nothing
    there: a table may name them, else the adapter is named without."""

    body: dict[str, Any] = {}
    omit: tuple[str, ...] = ()
    adapters: Literal["model"] | dict[str, str] | None = None


def read_options(metadata: Mapping[str, Any], options: Mapping[str, Any]) -> RemoteOptions:
    """Both together. Raises definition_invalid naming the field."""
    remote = metadata.get("remote", {})
    if not isinstance(remote, dict):
        raise AiwmError(Code.definition_invalid, "metadata.remote must be an object", field="metadata.remote")
    if not remote and not options:
        return _NONE
    known = {name: options[name] for name in RemoteOptions.__struct_fields__ if name in options}
    try:
        return msgspec.convert({**remote, **known}, RemoteOptions)
    except msgspec.ValidationError as error:
        where = "options" if known else "metadata.remote"
        raise AiwmError(Code.definition_invalid, f"{where}: {error}", field=where) from None


_NONE = RemoteOptions()


def named(model: str, remote: str, adapters: tuple[AdapterUse, ...], options: RemoteOptions) -> str:
    """What the server calls the model with these adapters. Raises adapter_unsupported naming the adapter: never is one left out."""
    if not adapters:
        return remote
    use = adapters[0]
    name, _, _ = use.name.partition("@")
    if options.adapters is None:
        why, fix = "its server has no adapters of ours", 'options: {"adapters": "model"}, if it serves them by name'
    elif len(adapters) > 1:
        use, why, fix = adapters[1], "its server takes one adapter at a time", "one adapter, or a local model"
    elif use.weight != 1.0:
        why, fix = f"its server applies it whole, not with weight {use.weight:g}", "weight 1, or a local model"
    elif options.adapters == "model":
        return name
    elif use.name in options.adapters or name in options.adapters:
        return options.adapters.get(use.name) or options.adapters[name]
    else:
        why, fix = "adapters of its definition does not name it", f'adapters: {{"{use.name[:80]}": "…"}}'
    raise AiwmError(Code.adapter_unsupported, f'{model}: adapter "{use.name[:80]}": {why}', field="adapters", fix=fix)

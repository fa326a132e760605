"""The words of a server program's command line, with their places filled in, and its environment."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from engine.contract.errors import AiwmError, Code
from engine.contract.suggest import nearest

PLACES = ("port", "path", "name", "context", "slots", "total_context")
"""`context` is one slot's, `total_context` that of all slots together."""

_PLACE = re.compile(r"\{([a-z_]*)\}")


def fill(words: tuple[str, ...], values: Mapping[str, str]) -> list[str]:
    """Each word with its places filled. No shell reads it, so that a value is never more than a part of its word."""
    return [_PLACE.sub(lambda found: values.get(found[1], found[0]), word) for word in words]


def environment(given: Mapping[str, str], hidden: Collection[str], devices: tuple[int, ...]) -> dict[str, str]:
    """What a program finds in its environment: ours, without our own settings and API keys, and with the GPUs that it may use."""
    kept = {name: value for name, value in given.items() if not name.startswith("AIWM_") and name not in hidden}
    if devices:
        # The driver's numbers, which NVML and nvidia-smi show, too.
        kept |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(map(str, devices))}
    return kept


def check_words(words: tuple[str, ...]) -> None:
    """Raise bad_request for a command that can never be run: no program, an unknown place, nowhere for the port."""
    if not words or not words[0].strip() or any("\0" in word for word in words):
        raise AiwmError(Code.bad_request, "a command needs a program", field="command", fix="llama-server -m {path} …")
    places = {place for word in words for place in _PLACE.findall(word)}
    for place in sorted(places - set(PLACES)):
        fix = nearest(place, PLACES) or "one of " + ", ".join(f"{{{known}}}" for known in PLACES)
        raise AiwmError(Code.bad_request, f"{{{place[:40]}}} is no place in a command", field="command", fix=fix)
    if "port" not in places:
        message = "the command does not say where its port goes"
        raise AiwmError(Code.bad_request, message, field="command", fix="--port {port}")

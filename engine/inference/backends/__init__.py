"""The in-process backends and the protocol they share (`base`). A backend turns admitted requests into text, one step at a
time, on one thread. What may not live here: pipes, asyncio, supervision, and any choice of which request goes first."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from engine.contract.definitions import Backend as BackendName
from engine.contract.errors import AiwmError, Code

if TYPE_CHECKING:
    from engine.inference.backends.base import Backend

# Where each is; imported by the process that loads a model with it, and by nobody else.
_CLASSES = {
    BackendName.reference: "engine.inference.backends.reference.backend:ReferenceBackend",
    BackendName.exllamav2: "engine.inference.backends.exllamav2.backend:ExllamaV2Backend",
}


def make_backend(name: BackendName) -> Backend:
    """A backend without a model. Raises backend_unavailable with the reason why it cannot be had on this machine."""
    module, _, kind = _CLASSES.get(name, "").partition(":")
    if not module:
        raise AiwmError(Code.backend_unavailable, f"backend {name} does not run in a model process", field="backend")
    try:
        backend: Backend = getattr(importlib.import_module(module), kind)()
    except (ImportError, OSError, RuntimeError) as error:
        raise AiwmError(
            Code.backend_unavailable,
            f"backend {name} cannot be used here: {error}",
            field="backend",
            fix="`aiwm doctor` says what it needs",
        ) from error
    return backend

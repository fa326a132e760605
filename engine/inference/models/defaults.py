"""How a model is run when nobody says: the definition that follows from what its files are."""

from __future__ import annotations

import shutil
from pathlib import Path

from engine.contract.definitions import Backend, ModelDefinition
from engine.contract.errors import AiwmError, Code
from engine.inference.models.kinds import ModelKind, Seen
from engine.inference.models.look import look
from engine.inference.models.machine import without_exllamav2

LLAMA_SERVER = (
    "-m", "{path}", "--host", "127.0.0.1", "--port", "{port}", "--alias", "{name}",
    "--parallel", "{slots}", "--ctx-size", "{total_context}", "--jinja",
)  # fmt: skip
"""llama-server's words (llama.cpp, tools/server/README.md): --ctx-size is shared by all slots."""

VLLM = (
    "serve", "{path}", "--host", "127.0.0.1", "--port", "{port}", "--served-model-name", "{name}",
    "--max-num-seqs", "{slots}", "--max-model-len", "{context}",
)  # fmt: skip
"""vLLM's words (docs.vllm.ai, serve)."""

ELSEWHERE = {
    ModelKind.exl3: "only TabbyAPI runs EXL3: start it, then aiwm model add http://127.0.0.1:5000",
    ModelKind.awq: "only vLLM or SGLang run AWQ: start one, then aiwm model add http://127.0.0.1:8000",
    ModelKind.other: "no backend here runs this quantisation: use the server that does, then aiwm model add URL",
}
"""Kinds that no backend of ours runs, and what to do."""


def definition_of(name: str, path: Path) -> ModelDefinition:
    """The definition of a model that nobody defined, from its headers. Raises model_refused for a kind that nothing here runs,
    model_invalid for files that are damaged or must not be opened."""
    seen = look(path)
    refuse_broken(seen)
    return definition_for(name, seen)


def definition_for(name: str, seen: Seen) -> ModelDefinition:
    """The definition of a model as it was seen: the first backend that may run its kind. Raises model_refused."""
    path = seen.path
    if seen.kind is ModelKind.plain:
        backend = Backend.reference if without_exllamav2() else Backend.exllamav2
        return ModelDefinition(name=name, backend=backend, path=path)
    if seen.kind in (ModelKind.exl2, ModelKind.gptq):
        return ModelDefinition(name=name, backend=Backend.exllamav2, path=path)
    if seen.kind is ModelKind.gguf:
        program = shutil.which("llama-server") or "llama-server"
        return ModelDefinition(name=name, backend=Backend.command, path=path, command=(program, *LLAMA_SERVER))
    vllm = shutil.which("vllm") if seen.kind is ModelKind.awq else None
    if vllm is not None:
        return ModelDefinition(name=name, backend=Backend.command, path=path, command=(vllm, *VLLM))
    raise AiwmError(
        Code.model_refused,
        f"{path} is {kind_text(seen)}, which nothing here runs",
        field="path",
        fix=ELSEWHERE.get(seen.kind, "aiwm model check PATH"),
    )


def refuse_broken(seen: Seen) -> None:
    """Raise model_invalid for a model that cannot be loaded whatever the backend is."""
    if seen.refused:
        message = f"{seen.path} has {seen.refused}; weights must be *.safetensors or *.gguf"
        raise AiwmError(Code.model_invalid, message, field="path", fix="convert the weights to safetensors")
    if seen.damaged:
        more = f" (and {len(seen.damaged) - 1} more)" if len(seen.damaged) > 1 else ""
        message = f"{seen.path} is damaged: {seen.damaged[0]}{more}"
        raise AiwmError(Code.model_invalid, message, field="path", fix="copy the files again from where they came")


def kind_text(seen: Seen) -> str:
    """`EXL2 4.65 bpw`, `fp16 BF16`; what it is instead of a model, where that is known."""
    if seen.kind is ModelKind.unknown:
        return seen.notes[0] if seen.notes else "of an unknown kind"
    return f"{seen.kind.value} {seen.quant}".strip()

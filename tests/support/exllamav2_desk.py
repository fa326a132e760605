"""A loaded exllamav2 backend to ask things of, and what transformers and PEFT say to its answers."""

from __future__ import annotations

import importlib
import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.inference.adapter_files import adapter_digest, file_marks
from engine.inference.backends.answer import Answer
from engine.inference.backends.base import (
    AdapterRef,
    Constraint,
    Delta,
    Event,
    Failed,
    Finished,
    LoadSpec,
    Message,
    Prepared,
    Progress,
    Request,
    Sampling,
)
from engine.inference.backends.exllamav2.backend import ExllamaV2Backend
from tests.support.tiny_model import tiny_config, write_adapter, write_model

if TYPE_CHECKING:
    from engine.inference.backends.exllamav2.served import Served

# What exllamav2 wants: sizes in multiples of 32. Context for several pages.
SIZES: dict[str, Any] = {
    "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 32, "max_position_embeddings": 2048, "tie_word_embeddings": False,
}  # fmt: skip
NEAR = 0.06  # how far below the best logit a greedily chosen token may be: 16 bits against 32


def install_at_load() -> None:
    """Install the emulation when a model is loaded, for a model process: before, importing exllamav2 would print to its protocol, and torch
    would be there before its GPUs are chosen."""
    backend: Any = importlib.import_module("engine.inference.backends.exllamav2.backend")
    library: Any = importlib.import_module("engine.inference.backends.exllamav2.library")

    def install_and_import(devices: tuple[int, ...], progress: Progress) -> None:
        library._choose_devices(devices)
        from tests.support.exllamav2_emulation import install

        install()
        library.import_library(devices, progress)

    backend.import_library = install_and_import


def small_model(directory: Path, **changes: Any) -> Path:
    return write_model(directory, dtype="F16", **(SIZES | changes))


def small_adapter(directory: Path, *, seed: int, **changes: Any) -> Path:
    return write_adapter(directory, tiny_config(**SIZES), seed=seed, **({"scale": 0.12} | changes))


@dataclass
class Written:
    """What became of a request. `tokens` as they were sampled, the end token too."""

    prompt: tuple[int, ...]
    text: str = ""
    tokens: list[int] = field(default_factory=list)
    end: Finished | Failed | None = None

    @property
    def finished(self) -> Finished:
        assert isinstance(self.end, Finished), self.end
        return self.end

    @property
    def failed(self) -> Failed:
        assert isinstance(self.end, Failed), self.end
        return self.end


class Desk:
    """One backend with a model."""

    def __init__(self, model: Path, *, slots: int = 8, context: int | None = None, **spec: Any) -> None:
        self.model = model
        self.backend = ExllamaV2Backend()
        self.progress: list[tuple[str, float | None]] = []
        self.loaded = self.backend.load(
            LoadSpec(model, slots, context, **spec), lambda *told: self.progress.append(told)
        )
        self.written: dict[str, Written] = {}
        self._numbers = itertools.count()
        self._record()

    @property
    def served(self) -> Served:
        served = self.backend._current
        assert served is not None
        return served

    def _record(self) -> None:
        """Keep the tokens of answers, which only their text leaves the backend of."""
        running: Any = importlib.import_module("engine.inference.backends.exllamav2.running")
        desk = self

        class Recorded(Answer):
            def take(self, token: int) -> list[Event]:
                desk.written[self._prepared.request.id].tokens.append(token)
                return super().take(token)

        running.Answer = Recorded

    def adapter(self, path: Path, weight: float = 1.0) -> AdapterRef:
        """Attached, and named as a request names it."""
        ref = AdapterRef(path.name, path, adapter_digest(path), weight, file_marks(path))
        if ref.digest not in self.served.loras:
            self.backend.attach(self.backend.upload(self.backend.stage(ref)))
        return ref

    def prepare(
        self,
        prompt: str,
        *adapters: AdapterRef,
        talk: bool = False,
        schema: dict[str, Any] | None = None,
        **sampling: Any,
    ) -> Prepared:
        given = Sampling(**({"max_tokens": 8} | sampling))
        return self.backend.prepare(
            Request(
                f"r{next(self._numbers)}",
                None if talk else prompt,
                (Message("user", prompt),) if talk else None,
                adapters,
                given,
                schema=schema,
            )
        )

    def admit(self, prepared: Prepared) -> bool:
        self._record()
        self.written[prepared.request.id] = Written(prepared.tokens)
        return self.backend.admit(prepared)

    def begin(self, prompt: str, *adapters: AdapterRef, **how: Any) -> str:
        """Prepare and admit; its id."""
        prepared = self.prepare(prompt, *adapters, **how)
        assert self.admit(prepared)
        return prepared.request.id

    def step(self) -> list[Event]:
        events = self.backend.step()
        for event in events:
            written = self.written[event.id]
            if isinstance(event, Delta):
                written.text += event.text
            else:
                written.end = event
        return events

    def finish(self) -> None:
        while self.backend.active():
            self.step()

    def ask(self, prompt: str, *adapters: AdapterRef, **how: Any) -> Written:
        """One request from its beginning to its end."""
        request = self.begin(prompt, *adapters, **how)
        self.finish()
        return self.written[request]

    def whole(self) -> bool:
        """Every page is somewhere, and in one place only."""
        store, lanes = self.served.model.store, self.served.lanes.open
        held = [page.page_index for lane in lanes for page in lane._generator.all_pages]
        for lane in lanes:
            tables = [*lane._generator.referenced_pages.values(), *lane._generator.unreferenced_pages.values()]
            assert sorted(map(id, tables)) == sorted(map(id, lane._generator.all_pages))
        return sorted([*store.free, *held]) == list(range(store.count))

    def put_away(self) -> None:
        """No lanes and no adapters."""
        for lane in self.served.lanes.open:
            self.served.lanes.close(lane)
        for digest in list(self.served.loras._attached):
            self.backend.detach(digest)


class Only:
    """A constraint: these tokens in this order, then the end."""

    def __init__(self, tokens: list[int]) -> None:
        self._rest = list(tokens)

    @property
    def done(self) -> bool:
        return not self._rest

    def mask(self) -> bytes | None:
        token = self._rest[0]
        bits = bytearray(token // 8 + 1)
        bits[token // 8] |= 1 << token % 8
        return bytes(bits)

    def advance(self, token: int) -> None:
        assert token == self._rest.pop(0)


_: Constraint = Only([1])


# -- the measure ---------------------------------------------------------------------------------------------------------------


def oracle(model: Path, *adapters: tuple[Path, float]) -> Any:
    """The model in transformers at 32 bits, with these adapters at these weights in PEFT."""
    import torch
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    if not adapters:
        return base
    from peft import PeftModel

    names = [f"a{number}" for number in range(len(adapters))]
    adapted = PeftModel.from_pretrained(base, adapters[0][0], adapter_name=names[0])
    for name, (path, _) in list(zip(names, adapters, strict=True))[1:]:
        adapted.load_adapter(path, adapter_name=name)
    with torch.no_grad():
        for key, parameter in adapted.named_parameters():
            for name, (_, weight) in zip(names, adapters, strict=True):
                if f"lora_B.{name}." in key:
                    parameter.mul_(weight)
    adapted.base_model.set_adapter(names)
    return adapted


def short_of_best(model: Any, written: Written) -> float:
    """By how much the worst token of a greedy answer falls short of the best that the oracle would have chosen in its place."""
    import torch

    tokens = [*written.prompt, *written.tokens]
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0, len(written.prompt) - 1 : -1]
    chosen = logits.gather(1, torch.tensor(written.tokens)[:, None])[:, 0]
    return float((logits.max(-1).values - chosen).max())

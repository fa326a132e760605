"""Training of the base model: a fixed number of steps, every step's data drawn from (seed, step) alone."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from training import model, tokenizer
from training.curriculum import conversation
from training.optimizer import Optimizer
from training.partner import Partner
from training.settings import BaseRun
from training.words import Rng

Row = tuple[list[int], list[float]]


def batches(rows: list[Row], budget: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows sorted by length and cut into padded batches of at most `budget` tokens: little padding, all skills in each step."""
    ordered = sorted(rows, key=lambda row: len(row[0]))
    part: list[Row] = []
    for row in ordered:
        if part and _padded(row) * (len(part) + 1) > budget:
            yield _pad(part)
            part = []
        part.append(row)
    yield _pad(part)


def _padded(row: Row) -> int:
    return -(-len(row[0]) // 4) * 4


def _pad(part: list[Row]) -> tuple[Tensor, Tensor]:
    length = _padded(part[-1])
    ids = torch.tensor([ids + [0] * (length - len(ids)) for ids, _ in part])
    return ids, torch.tensor([weights + [0.0] * (length - len(weights)) for _, weights in part])


def loss_sum(low: model.Weights, ids: Tensor, weights: Tensor) -> Tensor:
    """Weighted cross entropy of the answer tokens; the head is applied to those alone."""
    length = ids.shape[1]
    cos, sin = model.rotation(length, torch.bfloat16)
    wanted = F.pad(weights[:, 1:] > 0, (0, 1))  # a position predicts the token after it
    hidden = model.hidden_states(low, ids, cos, sin, model.causal(length, torch.bfloat16), wanted)
    logits = F.linear(hidden, low["model.embed_tokens.weight"]).float()
    losses = F.cross_entropy(logits, ids[:, 1:][wanted[:, :-1]], reduction="none")
    return (losses * weights[:, 1:][wanted[:, :-1]]).sum()


def schedule(step: int, run: BaseRun) -> float:
    """Warm-up, then a cosine down to 2 %."""
    warm = min(1.0, (step + 1) / run.warmup)
    return run.peak * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / run.steps)))


def train(run: BaseRun, out: Path, begin: Path | None = None) -> dict[str, object]:
    """Train into `out` (a Hugging Face directory, saved every `save_every` steps), from scratch or from the model in `begin`.

    Returns the run's record, which is also written to run.json.
    """
    torch.manual_seed(run.seed)
    torch.set_num_threads(run.threads)
    torch.use_deterministic_algorithms(True)
    started, cpu = time.time(), time.process_time()
    weights = _first_weights(run, out, begin)
    low = {key: value.bfloat16().requires_grad_() for key, value in weights.items()}
    optimizer = Optimizer(weights, run.matrix_rate, run.other_rate, run.decay)
    parts = Parts(run, out)
    partner = Partner(parts, weights, run.threads)
    tokens, mean, log = 0, math.nan, []
    for step in range(run.steps):
        loss, seen = _gradients(low, parts, partner, step)
        tokens += seen
        gradients = {key: _take_gradient(value) for key, value in low.items()}
        optimizer.step(gradients, schedule(step, run), min(0.95, 0.85 + step / 3000))
        with torch.no_grad():
            for key, value in low.items():
                value.copy_(weights[key])
        mean = loss if math.isnan(mean) else 0.97 * mean + 0.03 * loss
        if (step + 1) % 50 == 0:
            used = round(time.process_time() - cpu + partner.cpu_s)
            log.append((step + 1, tokens, round(time.time() - started), used, round(mean, 4)))
            print("step {} tokens {} wall {} cpu {} loss {}".format(*log[-1]), flush=True)
        if (step + 1) % run.save_every == 0:
            model.save(weights, out)
    model.save(weights, out)
    partner.close()
    wall, used = round(time.time() - started), round(time.process_time() - cpu + partner.cpu_s)
    record = {**asdict(run), "tokens": tokens, "wall_s": wall, "cpu_s": used, "loss": round(mean, 4), "log": log}
    (out / "run.json").write_text(json.dumps(record) + "\n")
    return record


def _first_weights(run: BaseRun, out: Path, begin: Path | None) -> model.Weights:
    if begin is None:
        tokenizer.build(out)
        return model.fresh(run.seed)
    out.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(begin / name, out / name)
    return {key: value.float() for key, value in load_file(str(begin / "model.safetensors")).items()}


class Parts:
    """A step's rows, cut into parts: drawn from (seed, step) alone, so every process that asks gets the same."""

    def __init__(self, run: BaseRun, out: Path) -> None:
        self._run = run
        self._tokenizer = out / "tokenizer.json"
        self._core: Tokenizer | None = None

    def __call__(self, step: int, low: model.Weights) -> Iterator[tuple[Callable[[], Tensor], int]]:
        rows = self._rows(step)
        total = sum(sum(weights) for _, weights in rows)
        for ids, weights in batches(rows, self._run.budget):
            yield partial(_part, low, ids, weights, total), ids.numel()

    def _rows(self, step: int) -> list[Row]:
        if self._core is None:
            self._core = Tokenizer.from_file(str(self._tokenizer))
        run = self._run
        if run.polishing:
            rng, progress = Rng(f"{run.seed}:polish:{step}"), 1.0
        else:
            rng, progress = Rng(f"{run.seed}:{step}"), step / run.steps
        return [tokenizer.encode(self._core, conversation(rng, progress)) for _ in range(run.rows)]


def _part(low: model.Weights, ids: Tensor, weights: Tensor, total: float) -> Tensor:
    return loss_sum(low, ids, weights) / total


def _gradients(low: model.Weights, parts: Parts, partner: Partner, step: int) -> tuple[float, int]:
    """Accumulate the step's gradients; returns its loss and how many tokens went through, padding included."""
    partner.begin(step, low)
    loss, tokens = 0.0, 0
    for index, (compute, count) in enumerate(parts(step, low)):
        if index % 2:
            loss += partner.part(low)
        else:
            part = compute()
            part.backward()
            loss += part.item()
        tokens += count
    return loss, tokens


def _take_gradient(value: Tensor) -> Tensor:
    gradient = value.grad
    value.grad = None
    return gradient.float()

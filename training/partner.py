"""A second process that computes every other part of a step, so that training uses two cores.

The parts' gradients are added in the order in which one process alone would have added them, in the same arithmetic: the result is the
same to the bit, with one core or with two."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

import torch
from torch import Tensor

from training.model import Weights

Cut = Callable[[int, Weights], Iterator[tuple[Callable[[], Tensor], int]]]
"""(step, weights) to the step's parts in order: what computes a part's loss, and how many tokens it has."""


class Partner:
    """Has its own copy of the weights for each step; `part` is asked for in order. `cpu_s` is its CPU time so far."""

    def __init__(self, parts: Cut, shapes: Weights, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve,
            args=(parts, {key: value.shape for key, value in shapes.items()}, threads, theirs),
            daemon=True,
        )
        self._process.start()
        theirs.close()
        self.cpu_s = 0.0

    def begin(self, step: int, low: Weights) -> None:
        """Let it work on the odd parts of this step with these weights (bf16)."""
        self._pipe.send(step)
        self._pipe.send_bytes(_bytes(low.values()))

    def part(self, low: Weights) -> float:
        """Add the gradients of its next part to those of `low`; the answer is the part's loss."""
        loss, self.cpu_s = self._pipe.recv()
        gradients = _tensors(self._pipe.recv_bytes(), {key: value.shape for key, value in low.items()})
        for key, value in low.items():
            value.grad = gradients[key] if value.grad is None else value.grad.add_(gradients[key])
        return float(loss)

    def close(self) -> None:
        self._pipe.close()
        self._process.join()


def _serve(parts: Cut, shapes: dict[str, torch.Size], threads: int, pipe: Connection) -> None:
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    while True:
        try:
            step = pipe.recv()
            low = _tensors(pipe.recv_bytes(), shapes)
        except EOFError:
            return
        for value in low.values():
            value.requires_grad_()
        for index, (loss, _) in enumerate(parts(step, low)):
            if index % 2 == 0:
                continue
            part = loss()
            part.backward()
            pipe.send((part.item(), time.process_time()))
            pipe.send_bytes(_bytes([_gradient(value) for value in low.values()]))
            for value in low.values():
                value.grad = None


def _gradient(value: Tensor) -> Tensor:
    return value.grad if value.grad is not None else torch.zeros_like(value)


def _bytes(values: object) -> memoryview:
    flat = torch.cat([value.detach().flatten() for value in values])  # type: ignore[attr-defined]
    return memoryview(flat.view(torch.int16).numpy()).cast("B")


def _tensors(data: bytes, shapes: dict[str, torch.Size]) -> Weights:
    flat = torch.frombuffer(bytearray(data), dtype=torch.bfloat16)
    found, at = {}, 0
    for key, shape in shapes.items():
        found[key] = flat[at : at + shape.numel()].view(shape)
        at += shape.numel()
    return found

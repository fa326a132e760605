"""What a failure of the GPU means: too little memory, which a lane can be rid of, or a state that nobody knows."""

from __future__ import annotations

import gc

import torch

from engine.contract.errors import AiwmError, Code
from engine.inference.backends.base import Broken

EXIT_MEMORY = 71
EXIT_DEVICE = 72
_DEVICE = ("CUDA error", "CUBLAS_STATUS", "CUDNN_STATUS")  # torch's classes for these came late and do not cover all


class Failures:
    """Counts what goes wrong in steps: `count` since a step last went through. Out of memory once: the requests of that lane fail. Twice
    with no whole step between, or any other error of the device: the process is of no more use."""

    def __init__(self) -> None:
        self.count = 0

    def fine(self) -> None:
        """A whole step went through."""
        self.count = 0

    def met(self, error: Exception) -> AiwmError:
        """What to tell the requests of the lane in which this was raised. Raises Broken, or the error if it is none of the device's."""
        if isinstance(error, torch.OutOfMemoryError):
            self.count += 1
            if self.count > 1:
                raise Broken("the GPU's memory ran out twice in a row", EXIT_MEMORY) from error
            return out_of_memory(error)
        if any(words in str(error) for words in _DEVICE):
            raise Broken("the GPU failed, its state is unknown", EXIT_DEVICE) from error
        raise error


def out_of_memory(error: Exception) -> AiwmError:
    """The error for who asked."""
    error.__traceback__ = None  # its frames hold the tensors that took the memory
    return AiwmError(
        Code.model_too_big,
        f"the GPU's memory ran out: {str(error).splitlines()[0]}",
        retryable=True,
        fix="lower slots, context or the precision of kv of this model, or unload another (aiwm model ps)",
    )


def give_back() -> None:
    """Give the GPU what nobody holds any more and torch keeps for later."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

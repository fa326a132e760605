"""A model process: `python -P -m engine.inference.process --parent PID [--memory BYTES]`.

The main thread reads the pipe and tokenises, a second one reads adapter files, the stepper thread owns the model. The process ends
when its engine does: at the end of stdin, or by the kernel's signal."""

from __future__ import annotations

import os
import sys

from engine.wire.child import die_with_parent, protect_stdio

# One thread a process: the machine's cores go to replicas, and small products lose more to threads than they gain. This must
# be set before numpy is imported anywhere.
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def _arguments(words: list[str]) -> dict[str, int]:
    """`--name number` pairs; the engine is the only caller, so there is no help to print."""
    return {name.removeprefix("--"): int(value) for name, value in zip(words[::2], words[1::2], strict=True)}


def _limit_memory(limit: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    import faulthandler
    import resource

    reading, writing = protect_stdio()
    faulthandler.enable()  # a crash or the supervisor's SIGABRT leaves a traceback in the log
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    arguments = _arguments(sys.argv[1:])
    die_with_parent(arguments["parent"])
    if "memory" in arguments:
        _limit_memory(arguments["memory"])
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, "1")

    from engine.inference.serving import Server

    Server(writing).serve(reading)
    os._exit(0)  # the stepper may be in the middle of a step; there is nobody left to tell


if __name__ == "__main__":
    main()

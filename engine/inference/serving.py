"""The pipe's side of a model process: reads requests on the main thread, answers them, and writes the stepper's notes.

What needs no model state (tokenising) is done here, while the stepper steps; what does is handed to the stepper, which answers when
it comes to it."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from engine.contract.definitions import Backend as BackendName
from engine.contract.errors import AiwmError, Code
from engine.inference import protocol
from engine.inference.adapter_cache import AdapterCache
from engine.inference.backends import make_backend
from engine.inference.backends.base import AdapterRef, Backend, LoadSpec, MemoryReport, Message, Request, Sampling
from engine.inference.job import Job
from engine.inference.stepper import Stepper, resident_bytes
from engine.wire import rpc
from engine.wire.framing import LineFramer, Overlong

if TYPE_CHECKING:
    from collections.abc import Iterable

Answer = Callable[[Any], None]

READ_BYTES = 1 << 16


class Server:
    """Serves one model at a time on one pipe."""

    def __init__(self, writing: BinaryIO) -> None:
        self._backends: dict[BackendName, Backend] = {}
        self._backend: Backend | None = None  # that of the loaded model
        self._writing = writing
        self._lock = threading.Lock()
        self._stepper = Stepper(self._send)
        self._handlers: dict[str, tuple[type[Any], Callable[[Any, Answer], None]]] = {
            protocol.Load.method: (protocol.Load, self._load),
            protocol.Unload.method: (protocol.Unload, self._unload),
            protocol.Plan.method: (protocol.Plan, self._plan),
            protocol.Prefetch.method: (protocol.Prefetch, self._prefetch),
            protocol.Evict.method: (protocol.Evict, self._evict),
            protocol.Generate.method: (protocol.Generate, self._generate),
            protocol.Cancel.method: (protocol.Cancel, self._cancel),
            protocol.Memory.method: (protocol.Memory, self._memory),
        }

    def serve(self, reading: BinaryIO) -> None:
        """Until the other end closes the pipe."""
        self._stepper.start()
        framer = LineFramer()
        while data := os.read(reading.fileno(), READ_BYTES):
            for line in framer.feed(data):
                self._take(line)

    # -- lines -----------------------------------------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        with self._lock:
            try:
                view = memoryview(data)
                while view:
                    view = view[self._writing.write(view) :]
            except OSError:
                os._exit(0)  # nobody reads any more: the engine is gone

    def _send(self, notes: Iterable[protocol.Note]) -> None:
        self._write(b"".join(rpc.notification_line(note.method, rpc.encode(note)) for note in notes))

    def _take(self, line: bytes | Overlong) -> None:
        identifier: int | str | None = None
        try:
            if isinstance(line, Overlong):
                raise AiwmError(Code.line_too_long, "a line was longer than 16 MiB and was dropped")
            message = rpc.decode(line)
            identifier = message.id
            if message.method not in self._handlers:
                raise AiwmError(Code.unknown_method, f"a model process does not know the method {message.method}")
            kind, handler = self._handlers[message.method]
            params = rpc.params_of(message, kind)
            self._answering(identifier, handler, params)
        except AiwmError as error:
            self._write(rpc.error_line(identifier, error.info))

    def _answering(self, identifier: int | str | None, handler: Callable[[Any, Answer], None], params: Any) -> None:
        """Run a handler; whatever goes wrong becomes its answer, and the next request is served."""

        def answer(result: Any) -> None:
            if isinstance(result, AiwmError):
                self._write(rpc.error_line(identifier, result.info))
            else:
                self._write(rpc.result_line(identifier, rpc.encode(result)))

        self._guarded(lambda: handler(params, answer), answer)

    def _guarded(self, work: Callable[[], None], answer: Answer) -> None:
        try:
            work()
        except AiwmError as error:
            answer(error)
        except MemoryError:
            answer(
                AiwmError(
                    Code.model_too_big,
                    "the model process reached its memory limit",
                    fix="lower models.slots or models.context",
                )
            )
        except Exception as error:
            traceback.print_exc()
            answer(AiwmError(Code.internal, f"the model process failed: {type(error).__name__}: {error}"))

    def _on_stepper(self, work: Callable[[], None], answer: Answer) -> None:
        self._stepper.do(lambda: self._guarded(work, answer))

    # -- requests --------------------------------------------------------------------------------------------------------

    def _load(self, params: protocol.Load, answer: Answer) -> None:
        self._backend = None  # from here on this thread prepares nothing, whatever the stepper comes to

        def work() -> None:
            started = time.monotonic()
            self._stepper.unload()
            backend = self._named(params.backend)
            loaded = backend.load(_spec(params), self._progress)
            cache = AdapterCache(params.adapter_slots, params.adapter_bytes, params.staged_bytes)
            self._stepper.serve(backend, loaded.slots, cache)
            self._backend = backend
            answer(
                protocol.LoadResult(
                    backend=loaded.backend,
                    context=loaded.context,
                    slots=loaded.slots,
                    parameters=loaded.parameters,
                    weights_bytes=loaded.weights_bytes,
                    kv_bytes=loaded.kv_bytes,
                    load_ms=(time.monotonic() - started) * 1000,
                    vocabulary=loaded.vocabulary,
                    chat_template=loaded.chat_template,
                    where=loaded.where,
                )
            )

        self._on_stepper(work, answer)

    def _unload(self, _: protocol.Unload, answer: Answer) -> None:
        self._backend = None

        def work() -> None:
            self._stepper.unload()
            answer(None)

        self._on_stepper(work, answer)

    def _named(self, name: BackendName) -> Backend:
        """Raises backend_unavailable."""
        if name not in self._backends:
            self._progress(f"starting the {name} backend", None)
            self._backends.setdefault(name, make_backend(name))
        return self._backends[name]

    def _loaded(self) -> Backend:
        backend = self._backend
        if backend is None:
            raise AiwmError(Code.model_unavailable, "no model is loaded in this process", retryable=True)
        return backend

    def _progress(self, doing: str, share: float | None) -> None:
        self._send([protocol.ProgressNote(doing=doing, share=share)])

    def _plan(self, params: protocol.Plan, answer: Answer) -> None:
        plan = self._named(params.backend).plan(_spec(params))
        answer(
            protocol.PlanResult(
                parameters=plan.parameters,
                weights_bytes=plan.weights_bytes,
                kv_bytes=plan.kv_bytes,
                scratch_bytes=plan.scratch_bytes,
                total_bytes=plan.total_bytes,
                available_bytes=plan.available_bytes,
                fits=plan.fits,
                reason=plan.reason,
                advice=plan.advice,
            )
        )

    def _prefetch(self, params: protocol.Prefetch, answer: Answer) -> None:
        def work() -> None:
            _, loads = self._stepper.loaded()
            loads.prefetch(_refs(params.adapters), answer, next=params.next, keep=params.keep)

        self._on_stepper(work, answer)

    def _evict(self, params: protocol.Evict, answer: Answer) -> None:
        self._on_stepper(lambda: answer(self._stepper.loaded()[1].evict(params.digests)), answer)

    def _generate(self, params: protocol.Generate, answer: Answer) -> None:
        arrived = time.monotonic()
        request = Request(
            id=params.id,
            prompt=params.prompt,
            messages=None if params.messages is None else tuple(Message(t.role, t.content) for t in params.messages),
            adapters=_refs(params.adapters),
            sampling=Sampling(**msgspec.structs.asdict(params.sampling)),
            tools=params.tools,
            schema=params.schema,
            call_tools=params.call_tools,
        )
        prepared = self._loaded().prepare(request)
        deadline = None if params.deadline_ms is None else arrived + params.deadline_ms / 1000
        job = Job(prepared, arrived, deadline)

        def work() -> None:
            self._stepper.submit(job)
            answer(protocol.GenerateResult(tokens_in=len(prepared.tokens), prompt=prepared.prompt))

        self._on_stepper(work, answer)

    def _cancel(self, params: protocol.Cancel, answer: Answer) -> None:
        self._on_stepper(lambda: answer(protocol.CancelResult(self._stepper.cancel(params.id))), answer)

    def _memory(self, _: protocol.Memory, answer: Answer) -> None:
        def work() -> None:
            report = self._backend.memory() if self._backend else MemoryReport(0, 0, 0, 0)
            answer(
                protocol.MemoryResult(
                    rss_bytes=resident_bytes(),
                    weights_bytes=report.weights_bytes,
                    kv_bytes=report.kv_bytes,
                    kv_used_bytes=report.kv_used_bytes,
                    adapters_bytes=report.adapters_bytes,
                    staged_bytes=self._stepper.cache.staged_bytes,
                    scratch_bytes=report.scratch_bytes,
                    allocated_bytes=report.allocated_bytes,
                    reserved_bytes=report.reserved_bytes,
                )
            )

        self._on_stepper(work, answer)


def _refs(adapters: Iterable[protocol.AdapterFile]) -> tuple[AdapterRef, ...]:
    return tuple(AdapterRef(file.name, Path(file.path), file.digest, file.weight, file.marks) for file in adapters)


def _spec(asked: protocol.Load | protocol.Plan) -> LoadSpec:
    adapters = (
        {"adapter_slots": asked.adapter_slots, "adapter_bytes": asked.adapter_bytes}
        if isinstance(asked, protocol.Load)
        else {}
    )
    return LoadSpec(
        Path(asked.model),
        asked.slots,
        asked.context,
        devices=asked.devices,
        split=asked.split,
        kv=asked.kv,
        kv_bytes=asked.kv_bytes,
        memory_bytes=asked.memory_bytes,
        **adapters,
    )

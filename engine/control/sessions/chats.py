"""Chats: turns of sessions under way, from what was said to what is written of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from engine.clock import Clock
from engine.contract.errors import AiwmError, Code, ErrorInfo
from engine.contract.models import model_name
from engine.contract.records.instances import ChatTurn
from engine.contract.requests.instances import InstanceChat
from engine.contract.states import InstanceState
from engine.control import adapter_names
from engine.control.instances import Instance
from engine.control.metering import Meter
from engine.control.sessions.chat import MAX_MESSAGE_CHARS, Talk, Turn, full
from engine.control.sessions.session import Session
from engine.control.sessions.speech import Speech
from engine.control.sessions.store import SessionStore
from engine.control.slots import Slots
from engine.requests.caller import Caller
from engine.store.ops import AppendEvent

replace = msgspec.structs.replace


class Chats:
    """Runs turns, one at a time for each session. `kept` is told a session as it is on disk after a turn."""

    def __init__(
        self,
        store: SessionStore,
        talk: Talk,
        slots: Slots,
        clock: Clock,
        kept: Callable[[Session, Instance], None],
        changed: Callable[[], None],
    ) -> None:
        self._store = store
        self._talk = talk
        self._slots = slots
        self._clock = clock
        self._kept = kept
        self._changed = changed
        self._turns: dict[str, Turn] = {}

    def __contains__(self, identifier: object) -> bool:
        return identifier in self._turns

    def check_idle(self, session: Session) -> None:
        """Raises `busy` while it answers."""
        if session.id in self._turns:
            raise AiwmError(
                Code.busy,
                f"{session.id} is answering",
                field="id",
                fix=f"wait, or aiwm instance stop {session.id}",
                retryable=True,
            )

    async def say(self, session: Session, instance: Instance, request: InstanceChat, caller: Caller) -> ChatTurn:
        """One turn: the answer, when it is written down."""
        self.check_idle(session)
        if not request.message.strip() or len(request.message) > MAX_MESSAGE_CHARS:
            raise AiwmError(Code.bad_request, f"a message has 1 to {MAX_MESSAGE_CHARS:,} characters", field="message")
        self._talk.check_room(session, request.message)
        speech = Speech(caller, session.id, session.turns + 1, stream=request.stream)
        work, context = self._talk.begin(instance, session, self._store.turns(session.id), request, speech)
        turn = self._turns[session.id] = Turn(caller.id, context)
        instance.take(None, self._clock.wall_ms())
        self._changed()

        async def answer() -> ChatTurn:
            with self._slots.held(model_name(session.config), adapter_names.of(session.config)) as context.replica:
                return await self._talk.run(instance, session, request.message, work, context)

        turn.task = asyncio.get_running_loop().create_task(answer())
        said, error = await _outcome(turn.task)
        try:
            return await self._ended(session, instance, context.meter, said, error)
        finally:
            self._turns.pop(session.id, None)
            turn.over.set()
            self._changed()

    async def stop(self, identifier: str) -> None:
        """Stop the answer under way; what it has said so far is the answer."""
        turn = self._turns.get(identifier)
        if turn is None:
            raise AiwmError(Code.conflict, f"{identifier} is not answering", field="id", fix="nothing to stop")
        await turn.context.stop()

    async def give_up(self, identifier: str) -> None:
        """End the answer under way, if there is one; it is not kept."""
        turn = self._turns.get(identifier)
        if turn is not None and turn.task is not None:
            turn.task.cancel()
            await turn.over.wait()

    def close_client(self, client: int) -> None:
        """A client is gone: nobody waits for its answers, so their slots are free for others."""
        for turn in self._turns.values():
            if turn.client == client and turn.task is not None:
                turn.task.cancel()

    async def close(self) -> None:
        """The engine stops: answers under way end."""
        for identifier in list(self._turns):
            await self.give_up(identifier)

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _ended(
        self, session: Session, instance: Instance, meter: Meter, said: ChatTurn | None, error: AiwmError | None
    ) -> ChatTurn:
        """Write what a turn came to; only then is it told."""
        limit = self._talk.limit(session)
        if said is not None and said.reason == "cancelled" and not said.text:
            said, error = None, AiwmError(Code.task_cancelled, "stopped before anything was said")
        changed = replace(
            session,
            active_ms=self._clock.wall_ms(),
            tokens_in=session.tokens_in + meter.tokens_in,
            tokens_out=session.tokens_out + meter.tokens_out,
            cost_usd=session.cost_usd + meter.cost_usd(session.config.cost),
            context_max=limit,
        )
        if said is None:
            error = error or AiwmError(Code.internal, "the turn came to nothing")
            if error.code == Code.prompt_too_long:
                error = full(session, limit, error.info.message)
            await self._keep(_troubled(changed, error.info), instance, None, None)
            raise error
        is_full = self._talk.is_full(said.context, limit)
        changed = replace(
            changed,
            turns=said.n,
            context=said.context,
            state=InstanceState.full if is_full else InstanceState.idle,
            note=f"context {said.context * 100 // limit} %: the next turn is refused" if is_full else "",
        )
        text = f"turn {said.n}: {said.tokens_in} tokens in, {said.tokens_out} out, {said.reason}"
        await self._keep(changed, instance, said, self._store.event("instance.turn", session.id, text, session.by))
        return said

    async def _keep(
        self, session: Session, instance: Instance, turn: ChatTurn | None, event: AppendEvent | None
    ) -> None:
        try:
            await self._store.put(session, turn, event)
        finally:
            self._kept(session, instance)
            instance.release(self._clock.wall_ms(), session.state)


async def _outcome(task: asyncio.Task[ChatTurn]) -> tuple[ChatTurn | None, AiwmError | None]:
    try:
        return await task, None
    except AiwmError as error:
        return None, error
    except asyncio.CancelledError:
        task.cancel()
        return None, AiwmError(Code.task_cancelled, "the answer was given up: its caller left, or the engine stops")


def _troubled(session: Session, error: ErrorInfo) -> Session:
    """A session after a turn that came to nothing."""
    if error.code == Code.task_cancelled:
        return session
    note = f"{error.code}: {error.message}"[:200]
    if error.code == Code.context_full:
        return replace(session, state=InstanceState.full, note=note)
    if error.code == Code.rate_limited:
        return replace(session, note=note)
    return replace(session, state=InstanceState.broken, failed=session.failed + 1, note=note)

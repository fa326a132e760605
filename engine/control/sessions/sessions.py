"""Sessions: directly spawned instances from their spawn to their end, and the history of every instance."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import msgspec

from engine.clock import Clock
from engine.contract.errors import AiwmError, Code
from engine.contract.models import model_name
from engine.contract.records.instances import ChatTurn, InstanceDetail, RetiredRow
from engine.contract.requests.instances import InstanceChat, InstanceSet, InstanceSpawn
from engine.contract.states import SEED_INSTANCE_STATES, InstanceState
from engine.control.catalogue import Catalogue
from engine.control.dispatcher import Dispatcher
from engine.control.instances import Instance, Instances
from engine.control.sessions.chat import Talk
from engine.control.sessions.chats import Chats
from engine.control.sessions.checks import check_room, check_talks
from engine.control.sessions.session import Session, in_force, revision
from engine.control.sessions.store import Retired, SessionStore
from engine.control.slots import Slots
from engine.requests.caller import Caller
from engine.scheduling.inputs import InstancesOutside, RetireRequested
from engine.workers.registry import KindRegistry

replace = msgspec.structs.replace


class Loader(Protocol):
    """What sessions ask of inference: to load a model before it is needed."""

    def ensure(self, model: str) -> None: ...


class Sessions:
    """Owns every session. `max_instances` is the engine's bound over all pools and sessions (0: none); `maintenance` says why nothing
    new may start, "" when it may."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        store: SessionStore,
        catalogue: Catalogue,
        kinds: KindRegistry,
        instances: Instances,
        talk: Talk,
        slots: Slots,
        loader: Loader,
        clock: Clock,
        max_instances: int,
        maintenance: Callable[[], str],
    ) -> None:
        self._dispatcher = dispatcher
        self.store = store
        self._catalogue = catalogue
        self._kinds = kinds
        self._instances = instances
        self._talk = talk
        self._loader = loader
        self._clock = clock
        self._max_instances = max_instances
        self._maintenance = maintenance
        self._live: dict[str, Session] = {}
        self._chats = Chats(store, talk, slots, clock, self._keep, self._changed)
        self._count: Counter[str] = Counter()
        self._changing = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None

    # -- life --------------------------------------------------------------------------------------------------------

    async def restore(self) -> None:
        """Bring back the sessions of the engine before this one."""
        for session in self.store.sessions():
            try:
                self._adopt(session)
            except AiwmError as error:
                await self._bury(session, InstanceState.failed, str(error), "engine")
        await self._retire_outdated()
        await self.store.trim()

    def look(self) -> None:
        """Definitions may have changed: sessions whose definition is another now are retired, in the middle of a turn when that has
        ended."""
        if self._looking is None and any(self._outdated(session) for session in self._live.values()):
            self._looking = asyncio.get_running_loop().create_task(self._retire_outdated())

    async def _retire_outdated(self) -> None:
        self._looking = None
        for session in list(self._live.values()):
            if session.id not in self._chats and (reason := self._outdated(session)):
                await self._end(session.id, InstanceState.exhausted, reason, "engine")

    def _outdated(self, session: Session) -> str:
        definition = self._catalogue.workers.get(session.definition)
        if definition is None:
            return f'its definition "{session.definition}" was removed'
        return "" if revision(definition) == session.revision else f'its definition "{session.definition}" changed'

    async def close(self) -> None:
        """The engine stops: answers under way end."""
        if self._looking is not None:
            self._looking.cancel()
        await self._chats.close()

    def close_client(self, client: int) -> None:
        """A client is gone: its answers are given up."""
        self._chats.close_client(client)

    # -- what operators ask ------------------------------------------------------------------------------------------

    async def spawn(self, request: InstanceSpawn, by: str) -> InstanceDetail:
        """A new session. Raises `not_active`, `conflict` at a limit, `bad_request` for overrides out of range."""
        async with self._changing:
            definition = self._catalogue.worker(request.definition)
            check_talks(definition, self._kinds)
            config = in_force(definition, request.overrides)
            check_room(definition, self._catalogue, self._instances, self._dispatcher, self._max_instances)
            instance = self._instances.spawn("", config)
            instance.state, instance.by = InstanceState.starting, by
            now = self._clock.wall_ms()
            session = Session(
                id=instance.id,
                definition=definition.name,
                revision=revision(definition),
                config=config,
                overrides=request.overrides,
                files=definition.files if request.files is None else request.files,
                by=by,
                spawned_ms=now,
                active_ms=now,
            )
            try:
                await self.store.put(session)
            except BaseException:
                self._instances.retire(instance.id)
                raise
            self._live[session.id] = session
            self._tell_count(definition.name, 1)
        self._loader.ensure(model_name(config))
        self._show(session, instance)
        instance.release(now)
        self._instances.changed()
        return self.detail(session.id)

    def detail(self, identifier: str) -> InstanceDetail:
        """An instance whole, live or retired. Raises `not_found`."""
        session, instance = self._live.get(identifier), self._instances.get(identifier)
        if session is not None and instance is not None:
            return InstanceDetail(
                row=instance.row(),
                definition=session.config,
                overrides=session.overrides,
                files=session.files,
                tokens_in=session.tokens_in,
                tokens_out=session.tokens_out,
                cost_usd=session.cost_usd,
                turns=tuple(self.store.turns(identifier)),
            )
        if instance is not None:
            return InstanceDetail(
                row=instance.row(),
                definition=instance.definition,
                files=instance.definition.files,
                tokens_in=instance.tokens_in,
                tokens_out=instance.tokens_out,
                cost_usd=instance.cost_usd,
            )
        return self._gone(identifier)

    async def set(self, request: InstanceSet, by: str) -> InstanceDetail:
        """Change a session by hand."""
        session, instance = self._find(request.id)
        self._chats.check_idle(session)
        state = session.state if request.state is None else _settable(request.state)
        session = replace(
            session,
            state=state,
            note=request.note if state is InstanceState.broken else "" if request.state is not None else session.note,
            files=session.files if request.files is None else request.files,
            tokens_in=session.tokens_in + max(0, request.tokens_in),
            tokens_out=session.tokens_out + max(0, request.tokens_out),
        )
        await self.store.put(session, event=self.store.event("instance.set", session.id, session.state.value, by))
        self._find(request.id)  # it may have been retired meanwhile
        self._live[session.id] = session
        self._show(session, instance)
        instance.release(self._clock.wall_ms(), session.state)
        self._instances.changed()
        return self.detail(session.id)

    async def retire(self, identifier: str, state: InstanceState, reason: str, by: str) -> InstanceDetail:
        """End a session; an answer under way is given up."""
        self._find(identifier)
        await self._chats.give_up(identifier)
        await self._end(identifier, state, reason or "retired by an operator", by)
        return self.detail(identifier)

    async def retire_of_pool(self, identifier: str, reason: str, by: str) -> InstanceDetail:
        """Ask a pool's instance to go. It takes no further task, and goes when the one it has has ended."""
        self._dispatcher.feed(RetireRequested(identifier))
        instance = self._instances.get(identifier)
        if instance is not None:
            instance.note = "retires when its task has ended" + (f": {reason}" if reason else "")
            self._instances.changed()
        await self.store.note(self.store.event("instance.retiring", identifier, reason or "asked by an operator", by))
        return self.detail(identifier)

    async def chat(self, request: InstanceChat, caller: Caller) -> ChatTurn:
        """Say something, wait for the answer."""
        session, instance = self._find(request.id)
        if why := self._maintenance():
            raise AiwmError(Code.not_active, f"no new turn begins: {why}", fix="aiwm engine resume", retryable=True)
        check_talks(self._catalogue.worker(session.definition), self._kinds)
        return await self._chats.say(session, instance, request, caller)

    async def stop(self, identifier: str) -> None:
        """Stop the answer under way; what it has said so far is the answer."""
        self._find(identifier)
        await self._chats.stop(identifier)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _keep(self, session: Session, instance: Instance) -> None:
        """A session is on disk as it is after a turn."""
        self._live[session.id] = session
        self._show(session, instance)

    def _changed(self) -> None:
        self._instances.changed()
        self.look()

    async def _end(self, identifier: str, state: InstanceState, reason: str, by: str) -> None:
        # From here on nobody talks to it or changes it: what came after its end would bring it back to life.
        session = self._live.pop(identifier, None)
        if session is None:
            return
        try:
            await self._bury(session, state, reason, by)
        except BaseException:
            self._live[identifier] = session
            raise
        self._instances.retire(identifier)
        self._tell_count(session.definition, -1)
        self._instances.changed()

    async def _bury(self, session: Session, state: InstanceState, reason: str, by: str) -> None:
        row = RetiredRow(
            id=session.id,
            state=state.value,
            pool="",
            definition=session.definition,
            reason=reason,
            spawned_ms=session.spawned_ms,
            retired_ms=self._clock.wall_ms(),
            done=session.turns,
            failed=session.failed,
            tokens_in=session.tokens_in,
            tokens_out=session.tokens_out,
            cost_usd=session.cost_usd,
            by=session.by,
            files=session.files,
        )
        event = self.store.event("instance.retired", session.id, f"{state.value}: {reason}", by)
        await self.store.retire(Retired(row=row, session=session), event)

    def _adopt(self, session: Session) -> None:
        instance = self._instances.adopt(session.id, "", session.config)
        instance.spawned_ms, instance.by = session.spawned_ms, session.by
        self._live[session.id] = session
        self._show(session, instance)
        instance.release(session.active_ms, session.state)
        self._tell_count(session.definition, 1)

    def _show(self, session: Session, instance: Instance) -> None:
        """Write into the row what the session is."""
        instance.done, instance.failed, instance.note = session.turns, session.failed, session.note
        instance.tokens_in, instance.tokens_out = session.tokens_in, session.tokens_out
        instance.cost_usd = session.cost_usd
        instance.context, instance.context_max = session.context, self._talk.limit(session)

    def _tell_count(self, definition: str, change: int) -> None:
        self._count[definition] += change
        self._dispatcher.feed(InstancesOutside(definition, self._count[definition]))

    def _find(self, identifier: str) -> tuple[Session, Instance]:
        session, instance = self._live.get(identifier), self._instances.get(identifier)
        if session is not None and instance is not None:
            return session, instance
        if instance is not None and not instance.pool:
            raise AiwmError(Code.conflict, f"{identifier} is being retired", field="id", fix="aiwm instance list")
        if instance is not None:
            raise AiwmError(
                Code.conflict,
                f'{identifier} belongs to pool "{instance.pool}" and takes its tasks',
                field="id",
                fix=f"aiwm instance spawn {instance.definition.name}",
            )
        retired = self._gone(identifier).retired
        assert retired is not None
        raise AiwmError(
            Code.conflict,
            f"{identifier} was retired: {retired.reason}",
            field="id",
            fix=f"aiwm instance spawn {retired.definition}",
        )

    def _gone(self, identifier: str) -> InstanceDetail:
        retired = self.store.retired(identifier)
        if retired is None:
            raise AiwmError(
                Code.not_found, f'instance "{identifier[:40]}" does not exist', field="id", fix="aiwm instance list"
            )
        session = retired.session
        if session is None:
            return InstanceDetail(retired=retired.row)
        return InstanceDetail(
            retired=retired.row,
            definition=session.config,
            overrides=session.overrides,
            files=session.files,
            tokens_in=session.tokens_in,
            tokens_out=session.tokens_out,
            cost_usd=session.cost_usd,
            turns=tuple(self.store.turns(identifier)),
        )


def _settable(word: str) -> InstanceState:
    state = SEED_INSTANCE_STATES.get(word, word)
    if state not in (InstanceState.idle, InstanceState.broken):
        raise AiwmError(
            Code.bad_request,
            f'an instance cannot be set to "{word[:40]}"; the engine sees to the other states',
            field="state",
            fix="idle or broken; aiwm instance retire ends it",
        )
    return InstanceState(state)

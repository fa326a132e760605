"""Requests about models: the book's, with the worker definitions, pools and queues that come and go with a model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path

from engine.contract.definitions import Backend, ModelDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.partial import merged
from engine.contract.records import ModelRow
from engine.contract.requests import models as requests
from engine.contract.requests.fleet import ModelList
from engine.contract.states import TaskState
from engine.control import offering
from engine.control.catalogue import Catalogue
from engine.control.checks import MAX_INSTANCES, referrers
from engine.control.definer import Definer
from engine.control.definitions import Definition, Definitions, Kind, kind_of
from engine.control.tally import Tally
from engine.inference.launch import in_process, settings_of
from engine.inference.memory.gpus import Gpus
from engine.inference.models import adding
from engine.inference.models.book import ModelBook
from engine.inference.models.detect import base_url, detect, place
from engine.inference.models.llama_swap import read_llama_swap
from engine.inference.models.machine import Machine, look_around
from engine.inference.settings import ProcessSettings
from engine.requests.caller import Caller
from engine.requests.table import RequestTable
from engine.scheduling.words import many
from engine.store import ops


class BookOperations:
    """`rows` are the model processes, `all_rows` those and the models that are known and not loaded; `keys` the names of config.toml's
    API keys, `defaults` how a model is run that does not say."""

    def __init__(
        self,
        book: ModelBook,
        catalogue: Catalogue,
        definer: Definer,
        gpus: Gpus,
        defaults: ProcessSettings,
        keys: Callable[[], Collection[str]],
        rows: Callable[[], list[ModelRow]],
        all_rows: Callable[[], list[ModelRow]],
        tally: Tally,
    ) -> None:
        self._book = book
        self._catalogue = catalogue
        self._definer = definer
        self._gpus = gpus
        self._defaults = defaults
        self._keys = keys
        self._rows = rows
        self._all_rows = all_rows
        self._tally = tally

    def register(self, table: RequestTable) -> None:
        table.register(ModelList, self.some)
        table.register(requests.ModelCheck, self.check)
        table.register(requests.ModelDetect, self.detect)
        table.register(requests.ModelAdd, self.add)
        table.register(requests.ModelImport, self.take_over)
        table.register(requests.ModelShow, self.show)
        table.register(requests.ModelSet, self.set)
        table.register(requests.ModelRemove, self.remove)
        table.register(requests.ModelOffer, self.offer)

    # -- looking -----------------------------------------------------------------------------------------------------

    async def some(self, request: ModelList, _: Caller) -> list[ModelRow]:
        return self._all_rows() if request.known else self._rows()

    async def check(self, request: requests.ModelCheck, _: Caller) -> list[requests.Verdict]:
        return await adding.check_path(
            request.path, await self._machine(), request.slots, request.context, self._called
        )

    async def detect(self, request: requests.ModelDetect, _: Caller) -> requests.Detected:
        for port in request.ports:
            if not 1 <= port <= 65_535:
                raise AiwmError(Code.bad_request, f"{port} is no port", field="ports")
        known: dict[str, tuple[str, ...]] = {}
        for definition in self._book.added.values():
            if definition.url:
                where = place(definition.url)
                known[where] = (*known.get(where, ()), definition.name)
        return await detect(request.ports, known)

    async def show(self, request: requests.ModelShow, _: Caller) -> requests.ModelDetail:
        return await self._detail(request.name, verdict=True)

    # -- changing ----------------------------------------------------------------------------------------------------

    async def add(self, request: requests.ModelAdd, caller: Caller) -> requests.Added:
        definition, verdict = await adding.proposed(request, await self._machine(), self._called)
        if not request.anyway:
            adding.check_program(definition)
        return await self._added(definition, verdict, caller, bare=request.bare, dry_run=request.dry_run)

    async def take_over(self, request: requests.ModelImport, caller: Caller) -> requests.ImportedModels:
        found = await asyncio.to_thread(read_llama_swap, request.text)
        added: list[requests.Added] = []
        refused = [requests.NotImported(name=name, why=why) for name, why in found.refused]
        for definition in found.definitions:
            try:
                added.append(await self._added(definition, None, caller, bare=request.bare, dry_run=request.dry_run))
            except AiwmError as error:
                refused.append(requests.NotImported(name=definition.name, why=error.info.message))
        return requests.ImportedModels(added=tuple(added), refused=tuple(refused))

    async def set(self, request: requests.ModelSet, caller: Caller) -> requests.ModelDetail:
        before, origin = self._book.found(request.name)
        if origin in ("path", "implied"):
            message = f'"{request.name[:80]}" is known by its {"path" if origin == "path" else "provider"} alone'
            raise AiwmError(Code.bad_request, message, field="name", fix="aiwm model add … --name NAME")
        after = merged(before, request.changes, request.clear)
        adding.check(after, self._keys(), self._book.find)
        if after.path and after.path != before.path:
            after = await adding.with_files(after)
        if after.command != before.command:
            adding.check_program(after)
        await adding.check_memory(after, self._defaults)
        await self._book.put(after, caller.principal)
        return await self._detail(request.name, verdict=False)

    async def remove(self, request: requests.ModelRemove, caller: Caller) -> requests.Removed:
        name = request.name
        async with self._definer.changing:
            made, now = offering.of_model(name, self._catalogue.now), self._catalogue.now
            after = now
            for definition in made:
                after = after.without(kind_of(definition), definition.name)
            self._refuse_removal(name, made, after)
            if name not in self._book.added and not made:
                self._book.find(name)
                message = f'"{name[:80]}" was not added: it is known without that'
                raise AiwmError(Code.not_found, message, field="name", fix="aiwm model show NAME says where it is")
            if request.dry_run:
                pass
            elif name in self._book.added:
                await self._book.remove(name, caller.principal, lambda op, stored: self._stored(after, op, stored))
            else:
                await self._definer.put_in_force(after)
        return requests.Removed(name=name, gone=tuple(map(offering.words, made)))

    async def offer(self, request: requests.ModelOffer, caller: Caller) -> requests.Offered:
        definition, made = await self._named(request, caller)
        async with self._definer.changing:
            now = self._catalogue.now
            queue = offering.queue_for(definition.name, now)
            if queue is None:
                more = self._offered(definition)
                _refuse_taken(more, now)
                await self._definer.put_in_force(_with(now, more))
                made += map(offering.words, more)
                queue = offering.plain_name(definition.name)
        return requests.Offered(model=definition.name, queue=queue, made=tuple(made))

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _machine(self) -> Machine:
        return await asyncio.to_thread(look_around, self._gpus, self._defaults.slots)

    def _called(self, path: Path) -> str:
        """What a path was added as; empty if it was not."""
        return next((it.name for it in self._book.added.values() if it.path == str(path)), "")

    async def _detail(self, name: str, *, verdict: bool) -> requests.ModelDetail:
        definition, origin = self._book.found(name)
        workers, queues = offering.users(definition.name, self._catalogue.now)
        judged = None
        if verdict and definition.path:
            found = await adding.check_path(
                definition.path, await self._machine(), definition.slots, definition.context, self._called
            )
            judged = found[0] if len(found) == 1 else None
        return requests.ModelDetail(
            definition=definition,
            origin=origin,
            workers=tuple(workers),
            queues=tuple(queues),
            processes=tuple(row for row in self._rows() if row.model == name),
            verdict=judged,
        )

    async def _added(
        self,
        definition: ModelDefinition,
        verdict: requests.Verdict | None,
        caller: Caller,
        *,
        bare: bool,
        dry_run: bool,
    ) -> requests.Added:
        adding.check(definition, self._keys(), self._book.find)
        if self._known(definition):
            return requests.Added(definition=definition, verdict=verdict, existed=True, dry_run=dry_run)
        await adding.check_memory(definition, self._defaults)
        async with self._definer.changing:
            now = self._catalogue.now
            made: tuple[Definition, ...] = ()
            if not bare:
                made = self._offered(definition)
                _refuse_taken(made, now)
            if not dry_run:
                after = _with(now, made)
                await self._book.put(definition, caller.principal, lambda op, stored: self._stored(after, op, stored))
        return requests.Added(
            definition=definition, made=tuple(map(offering.words, made)), verdict=verdict, dry_run=dry_run
        )

    async def _stored(self, after: Definitions, entry: tuple[ops.Op, ...], stored: Callable[[], None]) -> None:
        """The book's entry and the definitions', as one."""
        await self._definer.put_in_force(after, entry, stored)

    def _known(self, definition: ModelDefinition) -> bool:
        """Whether exactly this was added before. Raises conflict if its name stands for something else."""
        try:
            known, origin = self._book.found(definition.name)
        except AiwmError:
            return False
        if origin == "added" and known == definition:
            return True
        if origin != "added" and known.path == definition.path and known.path:
            return False
        what = known.path or known.url or " ".join(known.command)[:200]
        raise AiwmError(
            Code.conflict,
            f'"{definition.name}" is the model {what} already',
            field="name",
            fix=f"--name NAME, or aiwm model set {definition.name} FIELD=VALUE",
        )

    def _refuse_removal(self, name: str, made: list[Definition], after: Definitions) -> None:
        """Raise conflict while others need the model, or what was made for it."""
        workers, _ = offering.users(name, after)
        users = [f"worker {worker}" for worker in workers]
        users += [f"model {it.name}" for it in self._book.added.values() if name in it.route]
        for definition in made:
            users += referrers(kind_of(definition), definition.name, after)
        if users:
            message = f'model "{name}" is named by {", ".join(users[:8])}'
            raise AiwmError(Code.conflict, message, field="name", fix="change or delete these first")
        for definition in made:
            queue = definition.name if kind_of(definition) is Kind.queue else ""
            held = self._tally.waiting(queue) + self._tally.count(queue, TaskState.processing) if queue else 0
            if held:
                raise AiwmError(
                    Code.conflict,
                    f"queue {definition.name} has {many(held, 'task that has', 'tasks that have')} not ended",
                    field="name",
                    fix=f"aiwm queue drain {definition.name}, or aiwm task cancel --where 'queue:{definition.name}'",
                )

    async def _named(self, request: requests.ModelOffer, caller: Caller) -> tuple[ModelDefinition, list[str]]:
        """The model that is meant, added if it is a path or an address that nobody added yet; and what was made for it."""
        said = request.model
        is_url = said.startswith(("http://", "https://"))
        if not is_url and not said.startswith("/"):
            return self._book.find(said), []
        if not is_url and (name := self._called(Path(said))):
            return self._book.find(name), []
        if is_url:
            for known in self._book.added.values():
                if place(known.url) == place(base_url(said)) and request.remote in ("", known.remote):
                    return known, []
        asked = (
            requests.ModelAdd(url=said, remote=request.remote, key=request.key)
            if is_url
            else requests.ModelAdd(path=said)
        )
        added = await self.add(asked, caller)
        return added.definition, [f"model {added.definition.name}", *added.made]

    def _offered(self, definition: ModelDefinition) -> tuple[Definition, ...]:
        """What comes with a model, for as many requests at once as all its processes run, and answers that its context has room for."""
        own = settings_of(definition, self._defaults)
        if definition.backend in _REMOTE:
            return offering.offer(definition, definition.slots, definition.context)
        processes = own.replicas if in_process(definition) else 1
        return offering.offer(definition, min(own.slots * processes, MAX_INSTANCES), own.context or 0)


_REMOTE = (Backend.openai, Backend.anthropic, Backend.hybrid)


def _with(now: Definitions, more: tuple[Definition, ...]) -> Definitions:
    for one in more:
        now = now.put(one)
    return now


def _refuse_taken(made: tuple[Definition, ...], now: Definitions) -> None:
    """Raise conflict where a name that a model's definitions would have is taken by another definition."""
    for definition in made:
        kind = kind_of(definition)
        known = now.of(kind).get(definition.name)
        if known is not None and offering.made_for(known) != offering.made_for(definition):
            raise AiwmError(
                Code.conflict,
                f"{kind} {definition.name} exists already and was not made for this model",
                field="name",
                fix="--name NAME, or --bare to add the model alone",
            )

"""Requests about bundles and the file of worker definitions: validate, say what changes, then put in force what is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.contract.query import matches, parse, sort_records
from engine.contract.records import WorkerDetail, WorkerRow
from engine.contract.requests import bundles as requests
from engine.contract.requests.definitions import WorkerCreate, WorkerLoad, WorkerValidate
from engine.contract.requests.fleet import Reloaded, WorkerList, WorkerReload, WorkerShow
from engine.control.bundles.diff import counts, differences
from engine.control.bundles.export import export
from engine.control.bundles.read import read_document, read_home, read_list, read_text
from engine.control.bundles.schema import bundle_schema
from engine.control.bundles.validate import KeyFor, Prepared, prepare
from engine.control.catalogue import Catalogue
from engine.control.checks import Surroundings
from engine.control.definer import Definer
from engine.control.definitions import Definitions, Kind, stable_id
from engine.control.keeping import Keeping
from engine.control.tables import Tables
from engine.ports import EventSink
from engine.requests.caller import Caller
from engine.requests.table import RequestTable
from engine.scheduling.words import many

_POLICY = "load_policy"
DEFAULT_POLICY = requests.LoadPolicy.load_valid


class BundleOperations:
    """Loads bundles and worker files whole. `held` says of a queue how many tasks it has that have not ended."""

    def __init__(
        self,
        catalogue: Catalogue,
        definer: Definer,
        keeping: Keeping,
        around: Surroundings,
        tables: Tables,
        held: Callable[[str], int],
        key_for: KeyFor,
        now_ms: Callable[[], int],
        events: EventSink,
    ) -> None:
        self._events = events
        self._catalogue = catalogue
        self._definer = definer
        self._keeping = keeping
        self._around = around
        self._tables = tables
        self._held = held
        self._key_for = key_for
        self._now_ms = now_ms

    def register(self, table: RequestTable) -> None:
        table.register(requests.BundleLoad, self.load)
        table.register(requests.BundleDiff, self.diff)
        table.register(requests.BundleExport, self.export)
        table.register(requests.BundleSchema, self.schema)
        table.register(requests.BundlePolicy, self.policy)
        table.register(requests.BundleSetPolicy, self.set_policy)
        table.register(WorkerList, self.worker_list)
        table.register(WorkerShow, self.worker_show)
        table.register(WorkerCreate, self.worker_create)
        table.register(WorkerReload, self.worker_reload)
        table.register(WorkerLoad, self.worker_load)
        table.register(WorkerValidate, self.worker_validate)

    # -- bundles -----------------------------------------------------------------------------------------------------

    async def load(self, request: requests.BundleLoad, caller: Caller) -> requests.BundleReport:
        policy = self._policy(request.policy)
        async with self._definer.changing:
            found = self._prepared(request.bundle, keep_others=request.keep_others)
            going = found.base.queues.keys() - found.valid.queues.keys()
            if not going:
                return await self._load(request, policy, found, caller)
            with self._catalogue.closing(going):
                # What was on its way into a queue that goes is counted, too.
                await self._keeping.settled()
                return await self._load(request, policy, self._without_losing_tasks(found), caller)

    async def _load(
        self, request: requests.BundleLoad, policy: requests.LoadPolicy, found: Prepared, caller: Caller
    ) -> requests.BundleReport:
        report = self._report(found, policy)
        self._tell_refused(found)
        if report.loaded:
            file_too = request.bundle is None and self._keeping.file.exists()
            await self._definer.put_in_force(found.valid, self._keeping.file_in_force() if file_too else ())
            self._tell_changed(report, caller)
        return report

    def _tell_refused(self, found: Prepared) -> None:
        """What is wrong in a bundle that was to be loaded is an error; in a mission-critical pool or queue it is an alert."""
        for problem in found.errors:
            critical = (problem.kind, problem.name) in found.critical
            type_ = f"alert.{problem.kind}" if critical else "definition.refused"
            self._events.emit("error", type_, problem.name or "bundle", problem.info().message)

    def _tell_changed(self, report: requests.BundleReport, caller: Caller) -> None:
        """What a load changed, as an event: the request itself does not say it."""
        words = [
            f"{sign}{change.kind} {name}"
            for change in report.changes
            for sign, names in (
                ("+", change.added),
                ("~", [item.name for item in change.changed]),
                ("-", change.removed),
            )
            for name in names
        ]
        if words:
            self._events.emit("info", "definitions.changed", "definitions", ", ".join(words), who=caller.principal)

    async def diff(self, request: requests.BundleDiff, _: Caller) -> requests.BundleReport:
        policy = self._policy(request.policy)
        found = self._prepared(request.bundle, keep_others=request.keep_others)
        return msgspec.structs.replace(self._report(found, policy), loaded=False)

    async def export(self, _: requests.BundleExport, __: Caller) -> requests.Exported:
        now = self._catalogue.now
        return requests.Exported(bundle=export(now), counts=counts(now))

    async def schema(self, _: requests.BundleSchema, __: Caller) -> dict[str, Any]:
        return bundle_schema()

    async def policy(self, _: requests.BundlePolicy, __: Caller) -> requests.Policy:
        return requests.Policy(policy=self._policy(None).value)

    async def set_policy(self, request: requests.BundleSetPolicy, _: Caller) -> requests.Policy:
        policy = _policy(request.policy)
        await self._keeping.set(_POLICY, policy.value)
        return requests.Policy(policy=policy.value)

    def _prepared(self, text: str | None, *, keep_others: bool) -> Prepared:
        document = read_home(self._keeping.home) if text is None else read_document(text)
        found = prepare(document, self._catalogue.now, self._around, key_for=self._key_for, keep_others=keep_others)
        return self._without_losing_tasks(found)

    def _without_losing_tasks(self, found: Prepared) -> Prepared:
        """A queue that has tasks does not go with a bundle: that wants an explicit delete."""
        valid, errors = found.valid, list(found.errors)
        for name in sorted(found.base.queues.keys() - found.valid.queues.keys()):
            held = self._held(name)
            if held:
                valid = valid.put(found.base.queues[name])
                unended = many(held, "task that has", "tasks that have")
                errors.append(
                    requests.Problem(
                        kind="queue",
                        name=name,
                        field="",
                        message=f'queue "{name}" is not in the bundle, but has {unended} not ended',
                        fix=f"add it to the bundle, or first: aiwm queue delete {name} --cancel-tasks",
                    )
                )
        return msgspec.structs.replace(found, valid=valid, errors=errors)

    def _report(self, found: Prepared, policy: requests.LoadPolicy) -> requests.BundleReport:
        """What a load under this policy does. With errors, fail-fast does nothing; what it would do is told all the same."""
        loaded = not found.errors or policy is requests.LoadPolicy.load_valid
        return requests.BundleReport(
            policy=policy.value,
            loaded=loaded,
            changes=differences(found.base, found.valid),
            counts=counts(found.valid if loaded else found.base),
            errors=found.errors,
            warnings=found.warnings,
        )

    def _policy(self, said: str | None) -> requests.LoadPolicy:
        if said is not None:
            return _policy(said)
        return _policy(self._keeping.setting(_POLICY, str) or DEFAULT_POLICY.value)

    # -- worker definitions ------------------------------------------------------------------------------------------

    async def worker_list(self, request: WorkerList, _: Caller) -> list[WorkerRow]:
        location = parse(f":workers {request.where}")
        now = self._now_ms()
        rows = [row for row in self._tables.workers() if matches(location, row, now)]
        return sort_records(location, rows) if location.sort_keys() else sorted(rows, key=lambda row: row.id.lower())

    async def worker_show(self, request: WorkerShow, _: Caller) -> WorkerDetail:
        return self._worker(request.name)

    def _worker(self, name: str) -> WorkerDetail:
        worker = self._catalogue.worker(name)
        row = next(row for row in self._tables.workers() if row.id == worker.name)
        return WorkerDetail(row=row, definition=worker, uuid=stable_id(Kind.worker, worker.name))

    async def worker_create(self, request: WorkerCreate, _: Caller) -> WorkerDetail:
        await self._definer.create(request.definition)
        return self._worker(request.definition.name)

    async def worker_reload(self, _: WorkerReload, caller: Caller) -> Reloaded:
        async with self._definer.changing:
            try:
                found = self._workers(read_list(self._keeping.file, Kind.worker.plural))
            except AiwmError as error:
                return Reloaded(
                    added=[], changed=[], removed=[], unchanged=len(self._catalogue.workers), errors=[error.info]
                )
            report = self._report(found, requests.LoadPolicy.fail_fast)
            if report.loaded:
                await self._definer.put_in_force(found.valid, self._keeping.file_in_force())
                self._tell_changed(report, caller)
            return _reloaded(report, self._catalogue.now)

    async def worker_load(self, request: WorkerLoad, caller: Caller) -> requests.BundleReport:
        async with self._definer.changing:
            found = self._workers(_workers_document(request.workers))
            report = self._report(found, requests.LoadPolicy.fail_fast)
            if report.loaded:
                await self._definer.put_in_force(found.valid)
                self._tell_changed(report, caller)
            return report

    async def worker_validate(self, request: WorkerValidate, _: Caller) -> requests.BundleReport:
        found = self._workers(_workers_document(request.workers))
        return msgspec.structs.replace(self._report(found, requests.LoadPolicy.fail_fast), loaded=False)

    def _workers(self, document: dict[str, Any]) -> Prepared:
        return prepare(
            document, self._catalogue.now, self._around, key_for=self._key_for, only=Kind.worker, strict=True
        )


def _workers_document(text: str) -> dict[str, Any]:
    found = read_text(text, "the document")
    if isinstance(found, list):
        return {Kind.worker.plural: found}
    return read_document(text, "the document")


def _reloaded(report: requests.BundleReport, now: Definitions) -> Reloaded:
    if not report.loaded:
        nothing: list[str] = []
        return Reloaded(
            added=nothing,
            changed=nothing,
            removed=nothing,
            unchanged=len(now.workers),
            errors=[problem.info() for problem in report.errors],
            warnings=[problem.info() for problem in report.warnings],
        )
    change = next(change for change in report.changes if change.kind == Kind.worker)
    return Reloaded(
        added=change.added,
        changed=[item.name for item in change.changed],
        removed=change.removed,
        unchanged=change.unchanged,
        warnings=[problem.info() for problem in report.warnings],
    )


def _policy(word: str) -> requests.LoadPolicy:
    try:
        return requests.LoadPolicy(word)
    except ValueError:
        from engine.contract.suggest import nearest

        fix = nearest(word, list(requests.LoadPolicy)) or "fail-fast or load-valid"
        raise AiwmError(Code.bad_request, f'"{word[:40]}" is no load policy', field="policy", fix=fix) from None

"""Whether a definition can work: ranges, references, paths, schemas. Every check finds all that is wrong, not the first thing."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from engine.contract.definitions import (
    NAME_PATTERN,
    DataSource,
    PoolDefinition,
    Provider,
    QueueDefinition,
    SourceType,
    TaskTemplate,
    WorkerDefinition,
)
from engine.contract.errors import AiwmError, Code
from engine.contract.models import host_of, implied, model_name, needs_key, provider_fault
from engine.contract.suggest import nearest
from engine.control.definitions import Definition, Definitions, Kind, kind_of
from engine.inference.constrained.schema import check_keywords
from engine.workers.answers import check_schema
from engine.workers.registry import KindRegistry

MAX_INSTANCES = 1_000
_WEEK_MS = 7 * 86_400_000
_LONG = 2**40
_LONGEST_PATH, _LONGEST_NAME = 1_000, 255
_INSTANCE = re.compile(r"i-[0-9a-z]{1,12}")
_DATASOURCE = "datasource://"
_STORE = "fm:/"


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with a definition: the field's path in it (`retry.delay_ms`), a sentence, what would help. A warning is told, and
    hinders nothing. `names` is the kind of definition that it names and that is not there."""

    field: str
    message: str
    fix: str | None = None
    warning: bool = False
    names: Kind | None = None


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What definitions are checked against besides each other. `files` is the home's files/, `roots` the directories outside it that
    config.toml allows, `keys` the API keys it lists, `sendable` whether one of them may go to a host, `model` raises model_not_found for
    a model that is not here."""

    kinds: KindRegistry
    files: Path
    roots: tuple[Path, ...] = ()
    keys: Callable[[], Collection[str]] = tuple
    sendable: Callable[[str, str], bool] = lambda *_: True
    model: Callable[[str], None] = lambda _: None


def check(definition: Definition, among: Definitions, around: Surroundings) -> list[Fault]:
    """Everything that is wrong with a definition that shall stand among the others."""
    checks: Mapping[Kind, Callable[[Any, Definitions, Surroundings], Iterator[Fault]]] = {
        Kind.source: _source,
        Kind.worker: _worker,
        Kind.pool: _pool,
        Kind.queue: _queue,
        Kind.template: _template,
    }
    kind = kind_of(definition)
    faults = [] if re.fullmatch(NAME_PATTERN, definition.name) else [_bad_name(kind, definition.name)]
    return faults + list(checks[kind](definition, among, around))


def refuse(faults: list[Fault], prefix: str) -> None:
    """Raise the first fault that is no warning as `definition_invalid`; `prefix` (`definition.`) goes before its field."""
    for fault in faults:
        if not fault.warning:
            field = prefix + fault.field
            raise AiwmError(Code.definition_invalid, f"{field}: {fault.message}", field=field, fix=fault.fix)


def _worker(worker: WorkerDefinition, among: Definitions, around: Surroundings) -> Iterator[Fault]:
    yield from _kind_and_model(worker, around)
    sampling = worker.sampling
    yield from _ranges(
        ("sampling.temperature", sampling.temperature, 0, 100),
        ("sampling.top_p", sampling.top_p, 0, 1),
        ("sampling.max_tokens", sampling.max_tokens, 1, 2**24),
        ("context_tokens", worker.context_tokens, 0, 2**24),
        ("max_steps", worker.max_steps, 1, 1_000),
        ("limits.requests_per_minute", worker.limits.requests_per_minute, 0, _LONG),
        ("limits.tokens_per_minute", worker.limits.tokens_per_minute, 0, _LONG),
        ("limits.tokens_per_day", worker.limits.tokens_per_day, 0, _LONG),
        ("limits.max_instances", worker.limits.max_instances, 0, MAX_INSTANCES),
        ("cost.input_usd_per_1k", worker.cost.input_usd_per_1k, 0, 1e9),
        ("cost.output_usd_per_1k", worker.cost.output_usd_per_1k, 0, 1e9),
        *((f"adapters[{n}].weight", use.weight, -100, 100) for n, use in enumerate(worker.adapters)),
    )
    if worker.key and worker.key not in (keys := around.keys()):
        fix = nearest(worker.key, keys) or "a definition may only name a key that config.toml lists"
        yield Fault("key", f'config.toml lists no API key "{worker.key[:80]}"', fix)
    elif worker.key:
        yield from _key_goes(worker, around)
    yield from _answer_schema(worker.answer_schema)
    if worker.provider is Provider.local:
        yield from _held_to(worker.answer_schema)
    for index, file in enumerate(worker.files):
        yield from _file(f"files[{index}]", file, worker.sources)
    yield from _shared(worker, among)


def _kind_and_model(worker: WorkerDefinition, around: Surroundings) -> Iterator[Fault]:
    try:
        third_party = around.kinds.third_party(worker.kind)
        needs_model = not third_party and around.kinds.load(worker.kind).uses_model
    except AiwmError as error:
        yield Fault("kind", error.info.message, error.info.fix)
        return
    if needs_model and not worker.model:
        yield Fault("model", f'the kind "{worker.kind}" needs a model', '"model": "aiwm-nano"')
    elif (wrong := provider_fault(worker)) is not None:
        yield Fault(wrong.info.field or "provider", wrong.info.message, wrong.info.fix)
    elif needs_key(worker.provider) and not worker.key and not worker.options.get("base_url"):
        provider = worker.provider.value
        fix = f'"key": "{provider}", and [keys.{provider}] in config.toml'
        yield Fault("key", f"{provider} answers nobody without an API key", fix, warning=True)
    elif needs_model and worker.provider is Provider.local:
        # Whoever runs another provider's model answers for it when it is called.
        try:
            around.model(worker.model)
        except AiwmError as error:
            yield Fault("model", error.info.message, error.info.fix)


def _key_goes(worker: WorkerDefinition, around: Surroundings) -> Iterator[Fault]:
    """Said at once, not only when its first task fails: a key that may not go where the model is."""
    far = implied(model_name(worker)) if provider_fault(worker) is None else None
    if far is not None and not around.sendable(worker.key, host_of(far.url)):
        fix = f"add it to hosts of [keys.{worker.key}] in config.toml"
        yield Fault("key", f'the key "{worker.key}" may not be sent to {host_of(far.url)}', fix, warning=True)


def _pool(pool: PoolDefinition, among: Definitions, _: Surroundings) -> Iterator[Fault]:
    yield from _refers("definition", Kind.worker, pool.definition, among)
    yield from _ranges(
        ("max_total", pool.max_total, 1, MAX_INSTANCES),
        ("min_idle", pool.min_idle, 0, pool.max_total),
        ("cooldown_ms", pool.cooldown_ms, 0, _WEEK_MS),
        ("retirement.max_tasks", pool.retirement.max_tasks, 0, _LONG),
        ("retirement.max_age_ms", pool.retirement.max_age_ms, 0, _LONG),
    )
    yield from _shared(pool, among)


def _queue(queue: QueueDefinition, among: Definitions, _: Surroundings) -> Iterator[Fault]:
    for index, pool in enumerate(queue.pools):
        yield from _refers(f"pools[{index}]", Kind.pool, pool, among)
    retry = queue.retry
    yield from _ranges(
        ("default_priority", queue.default_priority, -1000, 1000),
        ("aging_ms", queue.aging_ms, 0, _WEEK_MS),
        ("max_length", 1 if queue.max_length is None else queue.max_length, 1, _LONG),
        ("retention_ms", 0 if queue.retention_ms is None else queue.retention_ms, 0, _LONG),
        ("retry.max_retries", retry.max_retries, 0, 1000),
        ("retry.delay_ms", retry.delay_ms, 0, _WEEK_MS),
        ("retry.max_delay_ms", retry.max_delay_ms, 0, 8 * _WEEK_MS),
        ("retry.backoff", retry.backoff, 1, 1000),
        ("retry.jitter", retry.jitter, 0, 1),
    )
    yield from _shared(queue, among)


def _template(template: TaskTemplate, among: Definitions, _: Surroundings) -> Iterator[Fault]:
    if template.queue:
        yield from _refers("queue", Kind.queue, template.queue, among)
    if template.definition:
        yield from _refers("definition", Kind.worker, template.definition, among)
    yield from _ranges(("priority", template.priority or 0, -1000, 1000))
    if template.payload_schema:
        yield from _schema("payload_schema", template.payload_schema)
    yield from _answer_schema(template.answer_schema)
    yield from _shared(template, among)


def _source(source: DataSource, _: Definitions, around: Surroundings) -> Iterator[Fault]:
    if source.type is SourceType.file_store:
        yield from _store_path("path", source.path)
    else:
        yield from _directory(source, around)
    if source.target:
        yield from _store_path("target", source.target)
    for index, pattern in enumerate(source.filters):
        if not pattern or "\0" in pattern or pattern.startswith("/") or ".." in PurePosixPath(pattern).parts:
            yield Fault(f"filters[{index}]", f'"{pattern[:80]}" is no glob beneath the source', 'such as "*.md"')


def _directory(source: DataSource, around: Surroundings) -> Iterator[Fault]:
    """Inside the home's files/, or outside it beneath a directory that config.toml allows. Links are followed before it is decided."""
    path = PurePosixPath(source.path)
    too_long = len(source.path) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_NAME for part in path.parts)
    if not source.path or "\0" in source.path or ".." in path.parts or too_long:
        yield Fault(
            "path", f'"{source.path[:80]}" is no path of a directory', "an absolute path, or one beneath files/"
        )
        return
    try:
        real, files = (around.files / path).resolve(), around.files.resolve()
        roots = [root.resolve() for root in around.roots]
    except (OSError, RuntimeError) as error:
        yield Fault("path", f'"{source.path[:200]}" cannot be resolved: {error}')
        return
    if real.is_relative_to(files):
        return
    if real.is_relative_to(files.parent) or files.is_relative_to(real):
        yield Fault("path", f'"{source.path[:200]}" would show the home itself', "a directory beneath its files/")
    elif not source.external:
        yield Fault("external", f'"{source.path[:200]}" lies outside the home\'s files/', '"external": true')
    elif not any(real.is_relative_to(root) for root in roots):
        listed = "security.external_roots in config.toml"
        yield Fault(
            "path", f'"{source.path[:200]}" is beneath no directory of {listed}', f"add its directory to {listed}"
        )


def _store_path(field: str, path: str) -> Iterator[Fault]:
    if not path.startswith(_STORE) or "\0" in path or ".." in PurePosixPath(path).parts:
        yield Fault(field, f'"{path[:80]}" is no folder of the file store', 'such as "fm:/shared/designs"')


def _file(field: str, file: str, sources: tuple[str, ...]) -> Iterator[Fault]:
    path = file
    if file.startswith(_DATASOURCE):
        name, _, path = file.removeprefix(_DATASOURCE).partition("/")
        if name not in sources:
            yield Fault(
                field, f'"{name[:80]}" is not among the definition\'s sources', nearest(name, sources) or '"sources"'
            )
    if not path or path.startswith("/") or "\0" in path or ".." in PurePosixPath(path).parts:
        yield Fault(
            field,
            f'"{file[:200]}" is no file that a worker may read',
            "a path beneath files/, or datasource://NAME/PATH",
        )


def _shared(
    definition: WorkerDefinition | PoolDefinition | QueueDefinition | TaskTemplate, among: Definitions
) -> Iterator[Fault]:
    """What every kind but a data source has: sources, and a supervisor."""
    for index, source in enumerate(definition.sources):
        yield from _refers(f"sources[{index}]", Kind.source, source, among)
    supervisor = definition.supervisor
    if supervisor.startswith("rules/"):
        if not re.fullmatch(NAME_PATTERN, supervisor.removeprefix("rules/")):
            yield Fault("supervisor", f'"{supervisor[:80]}" names no rules', "rules/NAME")
    elif supervisor and not _INSTANCE.fullmatch(supervisor):
        yield from _refers("supervisor", Kind.worker, supervisor, among)


def _refers(field: str, kind: Kind, name: str, among: Definitions) -> Iterator[Fault]:
    known = among.of(kind)
    if name not in known:
        yield Fault(
            field, f'{kind} "{name[:80]}" does not exist', nearest(name, known) or f"aiwm {kind} list", names=kind
        )


def _ranges(*numbers: tuple[str, float, float, float]) -> Iterator[Fault]:
    """A fault for each (field, value, lowest, highest) that is out of range; NaN always is."""
    for field, value, low, high in numbers:
        if not low <= value <= high:
            yield Fault(field, f"{str(value)[:40]} must lie between {low:g} and {high:g}")


def _schema(field: str, schema: Mapping[str, Any]) -> Iterator[Fault]:
    import jsonschema_rs

    try:
        jsonschema_rs.Draft202012Validator(dict(schema), retriever=_refuse_to_retrieve)
    except (
        jsonschema_rs.ValidationError,
        jsonschema_rs.ReferencingError,
        ValueError,
        TypeError,
        RecursionError,
    ) as error:
        message = getattr(error, "message", None) or str(error).partition("\n")[0]
        yield Fault(field, f"is no JSON Schema: {message[:300]}", "JSON Schema 2020-12 without references to elsewhere")


def _answer_schema(schema: dict[str, Any]) -> Iterator[Fault]:
    try:
        if schema:
            check_schema(schema, "answer_schema")
    except AiwmError as error:
        place = error.info.field or "answer_schema"
        yield Fault(place, error.info.message.removeprefix(f"{place} "), error.info.fix)


def _held_to(schema: dict[str, Any]) -> Iterator[Fault]:
    """A local model cannot be held to every keyword; one that a server of its own runs may be."""
    try:
        check_keywords(schema, "answer_schema")
    except AiwmError as error:
        place = error.info.field or "answer_schema"
        yield Fault(place, error.info.message.removeprefix(f"{place}: "), error.info.fix, warning=True)


def _refuse_to_retrieve(uri: str) -> Any:
    raise ValueError(f"{uri} lies elsewhere, and schemas are never fetched")


def _bad_name(kind: Kind, name: str) -> Fault:
    rule = "letters, digits, dot, dash and underscore, at most 64, a letter or digit first"
    return Fault("name", f'"{name[:80]}" is no name for a {kind}', rule)


def referrers(kind: Kind, name: str, among: Definitions) -> list[str]:
    """Who names this definition, as `pool demo`, so that it cannot go while they do."""
    found: list[str] = []
    for other in Kind:
        for definition in among.of(other).values():
            if (other, definition.name) != (kind, name) and name in _names(kind, other, definition):
                found.append(f"{other} {definition.name}")
    return found


def _names(kind: Kind, other: Kind, definition: Any) -> Collection[str]:
    """The definitions of one kind that another definition names."""
    if other is Kind.source:
        return ()
    if kind is Kind.source:
        return tuple(definition.sources)
    if kind is Kind.worker:
        named = [definition.supervisor]
        if other in (Kind.pool, Kind.template):
            named.append(definition.definition)
        return named
    if kind is Kind.pool and other is Kind.queue:
        return tuple(definition.pools)
    if kind is Kind.queue and other is Kind.template:
        return (definition.queue,)
    return ()

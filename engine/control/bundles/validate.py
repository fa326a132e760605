"""The first phase of a load: everything that is wrong with a document, and what would be in force without what is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from engine.contract.requests.bundles import Problem
from engine.contract.suggest import nearest
from engine.control.bundles.folding import Folded
from engine.control.bundles.names import kind_spellings, spellings
from engine.control.bundles.schema import LESSON_KEYS, Path, mistakes
from engine.control.checks import Fault, Surroundings, check
from engine.control.definitions import Definition, Definitions, Kind
from engine.control.offering import made_for

_KINDS = dict(kind_spellings())
_CRITICAL = (*spellings("mission_critical"), *spellings("is_mission_critical"))

KeyFor = Callable[[str, str], str | None]
"""The API key of config.toml that the seeds' (method, value) mean, None when it lists no such key."""


class Prepared(msgspec.Struct, frozen=True):
    """`valid` is what would be in force with everything that is right in the document. `base` stays with `errors` under fail-fast.
    `critical` are the (kind, name) that are mission-critical, by the document or by what is in force."""

    base: Definitions
    valid: Definitions
    errors: list[Problem]
    warnings: list[Problem]
    critical: frozenset[tuple[str, str]] = frozenset()


class _Candidate(msgspec.Struct):
    item: Folded
    definition: Any


def prepare(
    document: dict[str, Any],
    base: Definitions,
    around: Surroundings,
    *,
    key_for: KeyFor = lambda _, __: None,
    only: Kind | None = None,
    strict: bool = False,
    keep_others: bool = False,
) -> Prepared:
    """Validate a document whole against itself and `base`. `only` allows one kind's list. `strict` makes it an error, not a warning,
    when something in force would lose what it refers to."""
    errors: list[Problem] = []
    warnings: list[Problem] = []
    items = _items(document, only, errors, warnings)
    candidates = _structures(items, key_for, errors, warnings)
    complete = document.get("complete") is True and not keep_others
    said = {_KINDS[key] for key in document if key in _KINDS}
    if only is not None and only not in said:
        key = only.plural
        problem = Problem(kind="", name="", field=key, message=f'has no list "{key}"', fix=f'{{"{key}": […]}}')
        errors.append(problem)
    valid = _settle(candidates, base, around, said, errors, warnings, complete=complete)
    lost = _lost(base, valid)
    (errors if strict else warnings).extend(lost)
    return Prepared(base, base if strict and lost else valid, errors, warnings, _critical(document, base))


def _critical(document: dict[str, Any], base: Definitions) -> frozenset[tuple[str, str]]:
    """Also of definitions whose form is wrong: what breaks a critical pool is an alert, however it is broken."""
    said = {
        (_KINDS[key].value, item["name"])
        for key, found in document.items()
        if _KINDS.get(key) in (Kind.pool, Kind.queue) and isinstance(found, list)
        for item in found
        if isinstance(item, dict)
        and isinstance(item.get("name"), str)
        and any(item.get(spelling) is True for spelling in _CRITICAL)
    }
    known = {
        (kind.value, name)
        for kind in (Kind.pool, Kind.queue)
        for name, definition in base.of(kind).items()
        if definition.mission_critical
    }
    return frozenset(said | known)


# -- form and structure ----------------------------------------------------------------------------------------------


def _items(document: dict[str, Any], only: Kind | None, errors: list[Problem], warnings: list[Problem]) -> list[Folded]:
    """The definitions whose form is right, folded. Mistakes of form are errors of the definition they are in, or of the document."""
    wrong = mistakes(document)
    spoiled = {mistake.path[:2] for mistake in wrong}
    errors += [_problem(document, mistake.path, mistake.message, mistake.fix) for mistake in wrong]
    items = []
    for key, found in document.items():
        kind = _KINDS.get(key)
        if kind is None:
            if key in LESSON_KEYS:
                warnings.append(
                    _problem(document, (key,), "lessons are not definitions, and are left out", "aiwm lesson --help")
                )
            continue
        if only is not None and kind is not only:
            errors.append(
                _problem(document, (key,), f'unknown key "{key}"', nearest(key, (only.plural,)) or f'"{only.plural}"')
            )
        elif isinstance(found, list) and () not in spoiled and (key,) not in spoiled:
            items += [
                Folded(kind, f"{key}[{index}]", item) for index, item in enumerate(found) if (key, index) not in spoiled
            ]
    for item in items:
        warnings += item.warnings
    return items


def _problem(document: dict[str, Any], path: Path, message: str, fix: str | None) -> Problem:
    kind = _KINDS.get(str(path[0])) if path else None
    name = ""
    if kind is not None and len(path) > 1:
        item = document[str(path[0])][path[1]]
        name = item.get("name", "") if isinstance(item, dict) else ""
    field = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")
    return Problem(
        kind=kind or "", name=name if isinstance(name, str) else "", field=field[:300], message=message, fix=fix
    )


def _structures(
    items: list[Folded], key_for: KeyFor, errors: list[Problem], warnings: list[Problem]
) -> list[_Candidate]:
    """The definitions as structs; references by id are references by name from here on."""
    ids = _ids(items)
    candidates = []
    for item in items:
        told = len(item.warnings)
        _give_key(item, key_for)
        _give_names(item, ids)
        definition = None if item.errors else item.definition()
        if definition is not None:
            candidates.append(_Candidate(item, definition))
        errors += item.errors
        warnings += item.warnings[told:]
    return _unique(candidates, errors)


def _ids(items: list[Folded]) -> dict[tuple[Kind, str], str]:
    return {(item.kind, item.given_id): item.name for item in items if item.given_id}


def _give_names(item: Folded, ids: dict[tuple[Kind, str], str]) -> None:
    """Names in the place of ids, where the document gave some."""
    if not ids:
        return

    def named(kind: Kind, text: Any) -> Any:
        return ids.get((kind, text), text) if isinstance(text, str) else text

    tree = item.tree
    references = {"definition": Kind.worker, "supervisor": Kind.worker, "queue": Kind.queue}
    for field, kind in references.items():
        if field in tree:
            tree[field] = named(kind, tree[field])
    for field, kind in {"sources": Kind.source, "pools": Kind.pool}.items():
        if field in tree:
            tree[field] = [named(kind, name) for name in tree[field]]


def _give_key(item: Folded, key_for: KeyFor) -> None:
    """The seeds' `auth` as the name of a key that config.toml lists. Keys themselves are never taken over, nor said."""
    if item.auth is None:
        return
    method, value = item.auth
    if method == "inline":
        if value:
            item.caution("key", "a key in a bundle is not taken over", 'list it in config.toml and name it with "key"')
        return
    name = key_for(method, value)
    if name is None:
        # Somebody may have written the key itself where the name of its place belongs.
        place = f' "{value}"' if re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", value) else ""
        item.fault("key", f"config.toml lists no API key of {method}{place}", "list it there, with its hosts")
    else:
        item.tree["key"] = name


def _unique(candidates: list[_Candidate], errors: list[Problem]) -> list[_Candidate]:
    """Names and ids stand for one definition each: of those that share one, none can be meant."""
    names = Counter((it.item.kind, it.definition.name) for it in candidates)
    ids = Counter((it.item.kind, it.item.given_id) for it in candidates if it.item.given_id)
    kept = []
    for it in candidates:
        item = it.item
        if names[item.kind, it.definition.name] > 1:
            item.fault("name", f'two {item.kind.plural} are named "{it.definition.name}"', "names are unique")
        elif item.given_id and ids[item.kind, item.given_id] > 1:
            item.fault("", f'two {item.kind.plural} have the id "{item.given_id[:80]}"', "ids are unique")
        else:
            kept.append(it)
            continue
        errors.append(item.errors[-1])
    return kept


# -- each among the others -------------------------------------------------------------------------------------------


def _settle(
    candidates: list[_Candidate],
    base: Definitions,
    around: Surroundings,
    said: set[Kind],
    errors: list[Problem],
    warnings: list[Problem],
    *,
    complete: bool,
) -> Definitions:
    """What is in force with all candidates that can work. One that falls may take others with it, until what is left stands."""
    standing = candidates
    while True:
        among = _assembled(base, standing, said, complete=complete)
        faults = [(it, _forgiven(check(it.definition, among, around), complete)) for it in standing]
        fallen = {id(it) for it, found in faults if any(not fault.warning for fault in found)}
        for it, found in faults:
            if id(it) in fallen:
                errors += [_told(it.item, fault) for fault in found if not fault.warning]
        if not fallen:
            for it, found in faults:
                warnings += [_told(it.item, fault) for fault in found]
            return among
        standing = [it for it in standing if id(it) not in fallen]


def _forgiven(faults: list[Fault], complete: bool) -> list[Fault]:
    """Worker definitions are replaced whole, so what names one may outlive it. A complete bundle tells how things were, that too."""
    if not complete:
        return faults
    return [msgspec.structs.replace(it, warning=True) if it.names is Kind.worker else it for it in faults]


def _assembled(base: Definitions, standing: Iterable[_Candidate], said: set[Kind], *, complete: bool) -> Definitions:
    made = base
    for kind in Kind:
        mine = {it.definition.name: it.definition for it in standing if it.item.kind is kind}
        replaces = (kind is Kind.worker or complete) and kind in said
        if mine or replaces:
            stay = base.of(kind)
            if replaces:
                # What was made for a model was in no file: a file that leaves it out does not take it away.
                stay = {} if complete else {name: it for name, it in stay.items() if made_for(it)}
            made = made.with_all(kind, {**stay, **mine})
    return made


def _told(item: Folded, fault: Fault) -> Problem:
    return Problem(
        kind=item.kind.value, name=item.name, field=item.place(fault.field), message=fault.message, fix=fault.fix
    )


def _lost(base: Definitions, valid: Definitions) -> list[Problem]:
    """What stays as it is, but would lose a definition that it refers to."""
    problems = []
    for kind in Kind:
        for name, definition in valid.of(kind).items():
            if base.of(kind).get(name) == definition:
                gone = [
                    f'{other} "{lost}"'
                    for other, lost in _references(definition)
                    if lost in base.of(other) and lost not in valid.of(other)
                ]
                problems += [
                    Problem(
                        kind=kind.value,
                        name=name,
                        field="",
                        message=f'{kind} "{name}" is left without its {what}',
                        fix=f"add it to the bundle, or change {kind} {name}",
                    )
                    for what in gone
                ]
    return problems


def _references(definition: Definition) -> list[tuple[Kind, str]]:
    found: list[tuple[Kind, str]] = [(Kind.source, name) for name in getattr(definition, "sources", ())]
    found += [(Kind.pool, name) for name in getattr(definition, "pools", ())]
    found += [(Kind.worker, getattr(definition, field, "")) for field in ("definition", "supervisor")]
    found.append((Kind.queue, getattr(definition, "queue", "")))
    return found

"""What models look like for people: verdicts, details, what is on this machine."""

from __future__ import annotations

from collections.abc import Iterable

from engine.contract.definitions import ModelDefinition
from engine.contract.requests import models


def verdict_text(verdict: models.Verdict) -> str:
    """One model's verdict, a line a thing."""
    from aiwm_tui.live.format import plural, size

    kind = " ".join(part for part in (verdict.kind, verdict.quant) if part)
    facts = [kind, verdict.architecture]
    facts += [_parameters(verdict.parameters)] if verdict.parameters else []
    facts += [f"made for {verdict.max_context:,} tokens"] if verdict.max_context else []
    lines = [f"{verdict.name}  {' · '.join(part for part in facts if part)}", f"  {verdict.path}"]
    if verdict.needs_bytes:
        parts = f"weights {size(verdict.weights_bytes)}, KV {size(verdict.kv_bytes)}, the rest {size(verdict.scratch_bytes)}"
        sized = f"{plural(verdict.slots, 'request')} of {verdict.context:,} tokens"
        lines.append(f"  needs {size(verdict.needs_bytes)} for {sized}: {parts}")
    if verdict.state == "usable":
        lines.append(f"  runs with {verdict.runs_with}; fits {' or '.join(verdict.fits)}")
    else:
        fix = f" ({verdict.fix})" if verdict.fix else ""
        lines.append(f"  {verdict.state}: {verdict.why}{fix}")
    lines += [
        f"  not {way.runs_with}: {way.why}" for way in verdict.ways if way.why and way.runs_with != verdict.runs_with
    ]
    lines += [f"  note: {note}" for note in verdict.notes]
    told = 1 if verdict.state == "damaged" else 0  # the first is why
    lines += [f"  damaged: {file}" for file in verdict.damaged[told:]]
    lines += _template_lines(verdict)
    return "\n".join(lines)


def _parameters(count: int) -> str:
    return f"{count / 1e9:.1f} billion parameters" if count >= 10**9 else f"{count / 1e6:.1f} million parameters"


def _template_lines(verdict: models.Verdict) -> list[str]:
    if verdict.template == "none":
        return ["  chat template: none, so it takes bare prompts only"]
    lines = [f"  chat template: {verdict.template}"]
    return lines + [f"    │ {line}" for line in verdict.sample.splitlines()[:20]]


def added_text(added: models.Added) -> str:
    """What was added, or would be, and what to do with it."""
    definition = added.definition
    lines = [verdict_text(added.verdict)] if added.verdict is not None else []
    lines.append(f"{definition.name}: {way_text(definition)}")
    if added.existed:
        lines.append("  is known already; nothing was changed")
    else:
        verb = "would make" if added.dry_run else "made"
        lines.append(f"  {verb} {', '.join((f'model {definition.name}', *added.made))}")
    if not added.dry_run:
        lines.append(f'  aiwm try {definition.name} "…"  ·  aiwm model set {definition.name} FIELD=VALUE')
    return "\n".join(lines)


def way_text(definition: ModelDefinition) -> str:
    """How a model is run, in one line."""
    where = definition.path or definition.url or " → ".join(definition.route)
    if definition.command:
        return f"started as {' '.join(definition.command)}"
    remote = f" as {definition.remote}" if definition.remote and definition.remote != definition.name else ""
    verb = "looked at, not started" if definition.backend == "command" else definition.backend.value
    return f"{verb}: {where}{remote}"


def detail_text(detail: models.ModelDetail) -> str:
    """A model whole: the fields that say something, then its files, its users and its processes."""
    from aiwm_tui.cli.output import fields_text

    said = dict(_said(detail.definition))
    lines = [fields_text({**said, "origin": detail.origin})]
    lines.append(f"workers  {', '.join(detail.workers) or '–'}")
    lines.append(f"queues   {', '.join(detail.queues) or f'– (aiwm try {detail.definition.name} makes one)'}")
    lines += [f"process  {row.id} {row.state} on {row.where}" for row in detail.processes]
    if detail.verdict is not None:
        lines.append(verdict_text(detail.verdict))
    return "\n".join(lines)


def _said(definition: ModelDefinition) -> Iterable[tuple[str, object]]:
    """The fields that are not what they would be anyway."""
    usual = ModelDefinition(name=definition.name)
    for name in definition.__struct_fields__:
        value = getattr(definition, name)
        if name in ("name", "backend") or value != getattr(usual, name):
            yield name, "never" if name == "idle_ms" and value < 0 else value


def detected_text(found: models.Detected) -> str:
    """Servers, directories and programs, each with the command that uses it."""
    from aiwm_tui.live.format import plural

    lines = []
    for server in found.servers:
        what = (
            "needs a key"
            if server.needs_key
            else f"{plural(len(server.models), 'model')}: {', '.join(server.models[:6])}"
        )
        known = f" · known as {', '.join(server.known_as)}" if server.known_as else f" · aiwm model add {server.url}"
        lines.append(f"server     {server.program or 'unknown'} at {server.url} · {what}{known}")
    for place in found.directories:
        lines.append(f"directory  {place.path} · {plural(place.models, 'model')} · aiwm model check {place.path}")
    lines += [f"program    {program}" for program in found.programs]
    return "\n".join(lines) or "no servers on the known ports, no models in the usual places, no programs that run them"

"""Requests about models: which there are, what can be said of a directory, file or server, adding and changing them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import msgspec

from engine.contract.definitions import Backend, KvPrecision, ModelDefinition
from engine.contract.partial import partial_of
from engine.contract.records.models import ModelRow
from engine.contract.requests.base import Request
from engine.contract.states import Effect

if TYPE_CHECKING:
    ModelChanges: TypeAlias = Any
else:
    ModelChanges = partial_of(ModelDefinition)

NO_MODEL_CHANGES = ModelChanges()


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """One way to run a model: the backend, or the program that is a server for it. `needs_bytes` is weights, keys and values, adapters and
    scratch together; `fits` names the devices that have so much free now. `why` says why it cannot be used here."""

    runs_with: str
    usable: bool
    why: str = ""
    needs_bytes: int = 0
    fits: tuple[str, ...] = ()


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What can be said of a model before it is loaded. Sizes in bytes. `state` is usable, `no room` (now), refused (nothing here runs it),
    damaged or `no model`; `why` is the reason in a sentence, `fix` what to do. `context` is what was counted with, `max_context` what
    the model was made for (0: not known). `template` is ok, none or why it does not work; `sample` is a conversation as the
    template writes it. `known_as` is its name if it was added already."""

    path: str
    name: str
    kind: str
    state: str
    quant: str = ""
    architecture: str = ""
    parameters: int = 0
    weights_bytes: int = 0
    kv_bytes: int = 0
    scratch_bytes: int = 0
    needs_bytes: int = 0
    context: int = 0
    max_context: int = 0
    slots: int = 0
    runs_with: str = ""
    fits: tuple[str, ...] = ()
    why: str = ""
    fix: str | None = None
    ways: tuple[Way, ...] = ()
    template: str = "none"
    sample: str = ""
    damaged: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    known_as: str = ""


class ModelCheck(Request[list[Verdict]], frozen=True, kw_only=True):
    """What a directory or file is, whether it can run here and with what; of each model in it if it holds several. Reads headers only and
    changes nothing. `context` tokens a slot are counted with (0: config's)."""

    method: ClassVar[str] = "model.check"
    effect: ClassVar[Effect] = Effect.read

    path: str
    context: int = 0
    slots: int = 0


class Added(msgspec.Struct, frozen=True, kw_only=True):
    """What `model add` did (or would, with `dry_run`). `made` are the definitions that came with it, such as `queue qwen14`; `existed`
    that it was there already and was not changed."""

    definition: ModelDefinition
    made: tuple[str, ...] = ()
    verdict: Verdict | None = None
    existed: bool = False
    dry_run: bool = False


class ModelAdd(Request[Added], frozen=True, kw_only=True):
    """Let workers use a model: a directory or GGUF file of this machine, a server at an `url`, a `command` that starts a server, or a
    `route` over other models. Nothing is copied or loaded. With it come a worker definition, a pool and a queue of its name, unless it is
    `bare`. A model that nothing here can run is refused, unless `anyway`."""

    method: ClassVar[str] = "model.add"
    effect: ClassVar[Effect] = Effect.write
    unlogged: ClassVar[tuple[str, ...]] = ("command",)

    path: str = ""
    url: str = ""
    name: str = ""
    backend: Backend | None = None
    remote: str = ""
    key: str = ""
    command: tuple[str, ...] = ()
    health: str | None = None
    route: tuple[str, ...] = ()
    policy: str = ""
    slots: int = 0
    context: int = 0
    replicas: int = 0
    devices: tuple[int, ...] = ()
    split: tuple[float, ...] = ()
    kv: KvPrecision = KvPrecision.fp16
    kv_bytes: int = 0
    idle_ms: int = 0
    memory_bytes: int = 0
    description: str = ""
    bare: bool = False
    anyway: bool = False
    dry_run: bool = False


class ModelDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A model whole. `origin` is added (by somebody), home (it lies in models/), shipped, implied (by a provider's name) or path. `workers`
    are the definitions that name it, `queues` those whose tasks may come to it; `processes` those that hold it now."""

    definition: ModelDefinition
    origin: str
    workers: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    processes: tuple[ModelRow, ...] = ()
    verdict: Verdict | None = None


class ModelShow(Request[ModelDetail], frozen=True, kw_only=True):
    """One model: its definition, what its files are, who uses it and which processes hold it."""

    method: ClassVar[str] = "model.show"
    effect: ClassVar[Effect] = Effect.read

    name: str


class ModelSet(Request[ModelDetail], frozen=True, kw_only=True):
    """Change how a model is run. Processes that hold it go on as they are until they are restarted. `clear` names fields that go back to
    their default. One that nobody added becomes an added one."""

    method: ClassVar[str] = "model.set"
    effect: ClassVar[Effect] = Effect.write

    name: str
    changes: ModelChanges = NO_MODEL_CHANGES
    clear: tuple[str, ...] = ()


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """What `model remove` did. `gone` are the definitions that went with it, `kept` those that stay, each with why."""

    name: str
    gone: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


class ModelRemove(Request[Removed], frozen=True, kw_only=True):
    """Forget a model that was added, with the worker definition, pool and queue that came with it. Its files stay. Refused while others
    name it, or its queue has tasks."""

    method: ClassVar[str] = "model.remove"
    effect: ClassVar[Effect] = Effect.destructive

    name: str
    dry_run: bool = False


class Offered(msgspec.Struct, frozen=True, kw_only=True):
    """How prompts reach a model: through `queue`. `made` are definitions that were made for it just now."""

    model: str
    queue: str
    made: tuple[str, ...] = ()


class ModelOffer(Request[Offered], frozen=True, kw_only=True):
    """Make sure that prompts can be put to a model, and say which queue takes them: a name, an absolute path or an address. What is missing
    (the model, a worker definition, a pool, a queue) is made."""

    method: ClassVar[str] = "model.offer"
    effect: ClassVar[Effect] = Effect.write

    model: str
    remote: str = ""
    key: str = ""


class FoundServer(msgspec.Struct, frozen=True, kw_only=True):
    """A server that listens on this machine and speaks OpenAI's protocol. `models` are those it offers (empty with `needs_key`: it says
    nothing without one). `known_as` are models of ours that go there already."""

    url: str
    program: str
    models: tuple[str, ...] = ()
    needs_key: bool = False
    known_as: tuple[str, ...] = ()
    note: str = ""


class FoundDirectory(msgspec.Struct, frozen=True, kw_only=True):
    """A directory with so many models in it."""

    path: str
    models: int


class Detected(msgspec.Struct, frozen=True, kw_only=True):
    """What is on this machine: servers that listen, directories that hold models, programs that run them (`llama-server /usr/bin/…`)."""

    servers: tuple[FoundServer, ...] = ()
    directories: tuple[FoundDirectory, ...] = ()
    programs: tuple[str, ...] = ()


class ModelDetect(Request[Detected], frozen=True, kw_only=True):
    """Look for servers on the known ports of this machine (and on `ports`), and for directories with models in the usual places. Asks
    the loopback interface only, briefly, and changes nothing."""

    method: ClassVar[str] = "model.detect"
    effect: ClassVar[Effect] = Effect.read

    ports: tuple[int, ...] = ()


class NotImported(msgspec.Struct, frozen=True, kw_only=True):
    """A model of another program's configuration that was not taken over, and why."""

    name: str
    why: str


class ImportedModels(msgspec.Struct, frozen=True, kw_only=True):
    added: tuple[Added, ...]
    refused: tuple[NotImported, ...] = ()


class ModelImport(Request[ImportedModels], frozen=True, kw_only=True):
    """Take over the models of llama-swap's configuration (its text): each becomes a server that aiwm starts with the same command. What
    cannot be taken over is named, and hinders nothing."""

    method: ClassVar[str] = "model.import"
    effect: ClassVar[Effect] = Effect.write
    unlogged: ClassVar[tuple[str, ...]] = ("text",)

    text: str
    bare: bool = False
    dry_run: bool = False

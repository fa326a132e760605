"""Answers about a home, and about what lies and listens on its machine. A test that wants others puts them into `engine.answers`."""

from __future__ import annotations

from engine.contract.definitions import ModelDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.requests import fleet, home, models, session
from tests.support.console_engine import ConsoleEngine, answers

REPORT = home.HomeReport(home="/home/ana/.local/share/aiwm", bytes=148 * 1024)
SERVERS = (
    models.FoundServer(url="http://127.0.0.1:8080/v1", program="llama-swap", models=("qwen14", "llama8", "[red]x")),
    models.FoundServer(url="http://127.0.0.1:5000/v1", program="TabbyAPI", needs_key=True),
)
DIRECTORIES = (models.FoundDirectory(path="/srv/models", models=3),)
FINDINGS = [
    session.Finding(what="GPU", state="ok", seen="RTX 4090, 2.9 of 24.0 GiB free"),
    session.Finding(
        what="exllamav2 (models on a GPU)",
        state="warn",
        seen="exllamav2 is not installed",
        fix="pip install 'aiwm[gpu]'",
    ),
]
VERDICTS = [
    models.Verdict(
        path="/srv/models/qwen14", name="qwen14", kind="EXL2", quant="5 bpw", state="usable", needs_bytes=16 * 2**30,
        runs_with="exllamav2", fits=("GPU0",), slots=4, context=8192, weights_bytes=9 * 2**30, template="ok",
        sample="<|user|>hi\n\x1b[31m[bold]",
    ),
    models.Verdict(path="/srv/models/gone", name="gone", kind="fp16", state="damaged", why="model.safetensors is cut off"),
    models.Verdict(
        path="/srv/models/awq", name="awq", kind="AWQ", state="refused", why="vLLM: not in PATH", fix="pip install vllm"
    ),
    models.Verdict(path="/srv/models/notes", name="notes", kind="unknown", state="no model", why="no config.json"),
]  # fmt: skip


@answers(home.HomeLook)
def _home(_: ConsoleEngine, __: home.HomeLook) -> home.HomeReport:
    return REPORT


@answers(session.EngineDoctor)
def _doctor(_: ConsoleEngine, __: session.EngineDoctor) -> list[session.Finding]:
    return FINDINGS


@answers(models.ModelDetect)
def _detect(_: ConsoleEngine, __: models.ModelDetect) -> models.Detected:
    return models.Detected(servers=SERVERS, directories=DIRECTORIES)


@answers(models.ModelCheck)
def _check(_: ConsoleEngine, request: models.ModelCheck) -> list[models.Verdict]:
    return [it for it in VERDICTS if it.path.startswith(request.path)]


@answers(models.ModelAdd)
def _add(_: ConsoleEngine, request: models.ModelAdd) -> models.Added:
    if request.remote == "llama8":
        raise AiwmError(Code.conflict, 'there is a model "llama8"', field="name", fix="--name")
    name = request.remote or request.path.rpartition("/")[2]
    return models.Added(definition=ModelDefinition(name=name, path=request.path, url=request.url))


@answers(fleet.ModelList)
def _list(engine: ConsoleEngine, _: fleet.ModelList) -> list[object]:
    return list(engine.tables["models"].values())

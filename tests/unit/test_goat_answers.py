"""The LLM worker's answers by a schema, required calls, and calls of models that have tool calling of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.contract.definitions import Provider, Sampling, TaskTemplate, WorkerDefinition
from engine.contract.errors import AiwmError, Code
from engine.contract.ids import task_id
from engine.contract.requests.tasks import TaskSubmit
from engine.control.checks import Surroundings, check
from engine.control.definitions import Definitions
from engine.control.failures import fingerprint, whole
from engine.control.templating import Templating
from engine.ports import Delta, GenerateRequest, Message, Outcome, ToolAnswer, ToolCall, ToolDeclaration
from engine.workers.kinds.goat import GoatWorker
from engine.workers.registry import KindRegistry
from engine.workers.template import TaskInput

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
TOM = '{"name": "Tom", "age": 34}'
CALL = '{"tool": "read_file", "args": {"path": "a.txt"}}'


class Model:
    """Says what it was told to say; `ToolCall`s are native ones. Keeps what it was asked."""

    def __init__(self, *says: str | ToolCall | tuple[ToolCall, ...], reason: str = "stop", tools: bool = False) -> None:
        self._says = list(says)
        self._reason = reason
        self.asked: list[GenerateRequest] = []
        self.called: list[tuple[str, Any]] = []
        self.tools = self if tools else None
        self.declared = (ToolDeclaration(name="read_file", description="reads", parameters={"type": "object"}),)

    async def generate(self, request: GenerateRequest) -> _Said:
        self.asked.append(request)
        said = self._says.pop(0)
        if isinstance(said, str):
            return _Said(_outcome(said, self._reason))
        calls = said if isinstance(said, tuple) else (said,)
        return _Said(msgspec.structs.replace(_outcome("", "tool_calls"), tool_calls=calls))

    def write(self, text: str) -> None:
        pass

    def insight(self, level: str, message: str, details: Any = None) -> None:
        raise AssertionError(message)

    async def call(self, name: str, arguments: Any) -> ToolAnswer:
        self.called.append((name, arguments))
        return ToolAnswer(tool=name, verdict="allowed", gate="all", ok=True, text=f"{len(self.called)}: twelve")


class _Said:
    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome

    async def __aiter__(self) -> AsyncIterator[Delta]:
        yield Delta(self.outcome.text, 1)

    async def cancel(self) -> None:
        pass


def _outcome(text: str, reason: str) -> Outcome:
    return Outcome(reason=reason, text=text, tokens_in=9, tokens_out=2_048, first_token_ms=1.0, total_ms=2.0)


async def work(model: Model, payload: dict[str, Any], **definition: Any) -> Any:
    worker = GoatWorker(WorkerDefinition(name="w", model="m", **definition))
    worker.check({"prompt": "who?", **payload})
    task = TaskInput(id="t-1", attempt=1, payload={"prompt": "who?", **payload})
    return (await worker.process(task, model)).result


async def test_the_result_has_the_answer_as_data_beside_its_text() -> None:
    model = Model(TOM)
    result = await work(model, {"schema": SCHEMA})
    assert result["data"] == {"name": "Tom", "age": 34}
    assert result["text"] == TOM
    assert model.asked[0].schema == SCHEMA


async def test_without_a_schema_there_is_no_data() -> None:
    model = Model(TOM)
    assert "data" not in await work(model, {})
    assert model.asked[0].schema is None


async def test_a_task_s_schema_stands_in_for_its_definition_s() -> None:
    model = Model(TOM, "[1]", "7")
    assert (await work(model, {}, answer_schema=SCHEMA))["data"]["age"] == 34
    assert (await work(model, {"schema": {"type": "array"}}, answer_schema=SCHEMA))["data"] == [1]
    assert (await work(model, {"schema": {}}, answer_schema=SCHEMA))["data"] == 7, "an empty schema is any JSON"


async def test_stop_strings_do_not_cut_an_answer_by_a_schema() -> None:
    model = Model(TOM, TOM)
    await work(model, {"schema": SCHEMA, "stop": ["}"]}, sampling=Sampling(stop=("\n",)))
    assert model.asked[0].sampling.stop == ()
    await work(model, {"stop": ["}"]})
    assert model.asked[1].sampling.stop == ("}",)


async def test_an_answer_that_broke_off_fails_with_a_fingerprint_of_its_own() -> None:
    failures = []
    for text in ('{"name": "DE000000', '{"name": "Müller & “Söhne”", "age"'):
        with pytest.raises(AiwmError, match="broke off at 2,048 tokens; it ends in “") as failed:
            await work(Model(text, reason="length"), {"schema": SCHEMA})
        assert failed.value.code == Code.output_not_json
        assert failed.value.info.retryable
        failures.append(failed.value.info)
    marks = {fingerprint(info.code, info.message, "w") for info in failures}
    assert len(marks) == 1, "whatever the answers end in"
    with pytest.raises(AiwmError) as other:
        await work(Model("Tom is 34."), {"schema": SCHEMA})
    assert other.value.code == Code.output_not_json
    assert fingerprint(other.value.code, str(other.value), "w") not in marks
    assert whole(failures[0], 7).fix == f"aiwm task retry {task_id(7)} --set max_tokens=…"


@pytest.mark.parametrize(
    ("text", "where"),
    [('{"name": "Tom", "age": "34"}', "data.age"), ('{"name": "Tom"}', "data"), ("[]", "data")],
)
async def test_json_that_is_not_of_the_schema_fails_naming_the_place(text: str, where: str) -> None:
    with pytest.raises(AiwmError) as failed:
        await work(Model(text), {"schema": SCHEMA})
    assert failed.value.code == Code.output_invalid
    assert failed.value.info.field == where
    assert failed.value.info.retryable


@pytest.mark.parametrize(
    ("schema", "code", "field"),
    [
        ({"type": "objekt"}, Code.payload_invalid, "payload.schema.type"),
        ({"anyOf": [{"required": "a"}]}, Code.payload_invalid, "payload.schema.anyOf[0].required"),
        ({"$ref": "http://127.0.0.1:9/x"}, Code.payload_invalid, "payload.schema"),
        ({"const": "x" * 70_000}, Code.schema_unsupported, "payload.schema"),
        ("object", Code.payload_invalid, "payload.schema"),
    ],
)
def test_what_is_no_schema_is_refused_when_it_is_submitted(schema: Any, code: Code, field: str) -> None:
    with pytest.raises(AiwmError) as refused:
        GoatWorker(WorkerDefinition(name="w", model="m")).check({"prompt": "?", "schema": schema})
    assert (refused.value.code, refused.value.info.field) == (code, field)


def test_a_definition_s_schema_is_checked_with_it() -> None:
    around = Surroundings(kinds=KindRegistry(), files=Path("/nowhere"))
    for definition, field in (
        (WorkerDefinition(name="w", model="m", answer_schema={"type": "objekt"}), "answer_schema.type"),
        (TaskTemplate(name="t", answer_schema={"$ref": "http://127.0.0.1:9/x"}), "answer_schema"),
    ):
        assert field in [fault.field for fault in check(definition, Definitions(), around)]


def test_a_keyword_that_a_local_model_cannot_be_held_to_is_warned_of() -> None:
    around = Surroundings(kinds=KindRegistry(), files=Path("/nowhere"))
    schema = {"type": "object", "properties": {"a": {"not": {}}}}
    for provider, warned in ((Provider.local, ["answer_schema.properties.a.not"]), (Provider.ollama, [])):
        worker = WorkerDefinition(name="w", model="m", provider=provider, answer_schema=schema)
        faults = [fault for fault in check(worker, Definitions(), around) if fault.field.startswith("answer_schema")]
        assert [fault.field for fault in faults] == warned
        assert all(fault.warning and "not" in fault.message for fault in faults)


def test_a_template_s_schema_becomes_the_payload_s_unless_that_has_one() -> None:
    template = TaskTemplate(name="t", answer_schema=SCHEMA, defaults={"prompt": "who?"})
    applied = Templating().applied(TaskSubmit(queue="q", payload={}), template)
    assert applied.payload == {"prompt": "who?", "schema": SCHEMA}
    own = {"prompt": "x", "schema": {"type": "null"}}
    assert Templating().applied(TaskSubmit(queue="q", payload=own), template).payload == own


# -- tool calls ------------------------------------------------------------------------------------------------------------


async def test_a_call_is_required_of_the_first_answer_only() -> None:
    model = Model(CALL, "twelve", tools=True)
    result = await work(model, {"call_tools": "required"}, tools_allow=("*",))
    assert [request.call_tools for request in model.asked] == ["required", "auto"]
    assert result["text"] == "twelve"


async def test_a_required_call_that_does_not_come_or_breaks_off_fails() -> None:
    for text, reason, code in (
        ("I would rather not.", "stop", Code.output_invalid),
        ('{"name": "rea', "length", Code.output_not_json),
    ):
        with pytest.raises(AiwmError) as failed:
            await work(Model(text, reason=reason, tools=True), {"call_tools": "required"}, tools_allow=("*",))
        assert failed.value.code == code
        assert failed.value.info.retryable


async def test_a_call_that_broke_off_is_no_answer() -> None:
    with pytest.raises(AiwmError, match="a tool call broke off at 2,048 tokens") as failed:
        await work(Model(CALL[:30], reason="length", tools=True), {}, tools_allow=("*",))
    assert failed.value.code == Code.output_not_json
    text = "The answer is long, but it is te"
    assert (await work(Model(text, reason="length", tools=True), {}, tools_allow=("*",)))["text"] == text


def test_a_worker_without_tools_cannot_be_made_to_call_one() -> None:
    with pytest.raises(AiwmError) as refused:
        GoatWorker(WorkerDefinition(name="w", model="m")).check({"prompt": "?", "call_tools": "required"})
    assert refused.value.info.field == "payload.call_tools"


async def test_native_calls_are_answered_by_their_ids() -> None:
    calls = tuple(ToolCall(name="read_file", arguments={"path": name}, id=f"c{name}") for name in "ab")
    model = Model(calls, TOM, tools=True)
    result = await work(model, {"schema": SCHEMA}, tools_allow=("*",))
    assert model.called == [("read_file", {"path": "a"}), ("read_file", {"path": "b"})]
    assert result["data"]["age"] == 34
    _, asked, first, second = model.asked[1].messages
    assert (asked.role, asked.tool_calls) == ("assistant", calls)
    assert [(turn.role, turn.tool_call_id) for turn in (first, second)] == [("tool", "ca"), ("tool", "cb")]
    assert "1: twelve" in first.content
    assert [made["step"] for made in result["tool_calls"]] == [1, 1]


async def test_a_native_call_that_is_no_json_is_not_made_but_told() -> None:
    broken = ToolCall(name="read_file", arguments={}, id="c1", wrong="the arguments are no JSON: at byte 3")
    model = Model(broken, "done", tools=True)
    result = await work(model, {}, tools_allow=("*",))
    assert model.called == []
    answer = model.asked[1].messages[-1]
    assert "not understood: the arguments are no JSON" in answer.content
    assert answer.tool_call_id == "c1"
    assert [(made["verdict"], made["ok"]) for made in result["tool_calls"]] == [("malformed", False)]


async def test_more_native_calls_than_are_made_at_once_are_not_answered_either() -> None:
    calls = tuple(ToolCall(name="read_file", arguments={}, id=f"c{n}") for n in range(11))
    model = Model(calls, "done", tools=True)
    await work(model, {}, tools_allow=("*",))
    turns = model.asked[1].messages
    assert [call.id for call in turns[1].tool_calls] == [turn.tool_call_id for turn in turns[2:]]
    assert len(turns[2:]) == 8


async def test_a_result_that_is_cut_still_answers_its_call() -> None:
    class Small(Model):
        async def call(self, name: str, arguments: Any) -> ToolAnswer:
            return ToolAnswer(tool=name, verdict="allowed", gate="all", ok=True, text="word " * 500)

        async def generate(self, request: GenerateRequest) -> _Said:
            if sum(len(turn.content) for turn in request.messages) > 600:
                raise AiwmError(Code.prompt_too_long, "too long")
            return await super().generate(request)

    model = Small(ToolCall(name="read_file", arguments={}, id="c1"), "done", tools=True)
    await work(model, {}, tools_allow=("*",))
    last: Message = model.asked[-1].messages[-1]
    assert "… cut" in last.content
    assert last.tool_call_id == "c1"

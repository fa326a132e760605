"""Calls of remote models against a server that speaks the protocols: what is sent, what comes of answers, and what is left of a call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from engine.contract.definitions import AdapterUse, Backend, Sampling
from engine.contract.errors import AiwmError
from engine.ports import AdapterUsed, Message, ToolCall, ToolDeclaration
from tests.support.loopback import Loopback, Play, loopback
from tests.support.remote import BOTH_PROTOCOLS, KEY, Far
from tests.support.waiting import until

CALLS = (("c1", "add", '{"a": 2, "b": 2}'), ("c2", "now", ""))
ADD = ToolDeclaration(name="add", description="adds", parameters={"type": "object", "properties": {"a": {}, "b": {}}})
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture
def server() -> Iterator[Loopback]:
    with loopback() as running:
        yield running


# -- what is asked and answered ------------------------------------------------------------------------------------------------


@BOTH_PROTOCOLS
@pytest.mark.parametrize("piece", [0, 1, 7])
async def test_an_answer_is_streamed_and_counted(server: Loopback, backend: Backend, piece: int) -> None:
    server.usual = Play(say="es ist größer als 4 €", usage=(20, 9, 8), piece=piece)
    far = Far(server, backend=backend)
    text, outcome = await far.ask()
    assert text == outcome.text == "es ist größer als 4 €"
    assert (outcome.reason, outcome.tokens_in, outcome.tokens_out, outcome.cached) == ("stop", 20, 9, 8)
    assert 0 < outcome.first_token_ms <= outcome.total_ms
    assert outcome.process == "far"
    await far.model.close()


async def test_openais_body(server: Loopback) -> None:
    server.usual = Play(say='{"name": "Ann", "age": 4}')
    far = Far(server, key="mine")
    sampling = Sampling(temperature=0.5, top_p=0.9, max_tokens=77, seed=5, stop=("END",))
    await far.ask(
        Message(role="system", content="be brief"),
        "hello",
        sampling=sampling,
        tools=(ADD,),
        schema=PERSON,
    )
    (asked,) = server.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["accept-encoding"] == "identity"
    assert asked.body == {
        "model": "far-1",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 77,
        "seed": 5,
        "stop": ["END"],
        "tools": [
            {"type": "function", "function": {"name": "add", "description": "adds", "parameters": ADD.parameters}}
        ],
        "tool_choice": "auto",
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": PERSON, "strict": True}},
    }
    assert far.ring.asked == [("mine", server.host)]


async def test_anthropics_body(server: Loopback) -> None:
    far = Far(server, backend=Backend.anthropic, key="mine")
    sampling = Sampling(temperature=0.5, max_tokens=77, seed=5, stop=("END",))
    conversation = (
        Message(role="system", content="be brief"),
        Message(role="user", content="what is 2+2?"),
        Message(role="assistant", content="", tool_calls=(ToolCall(name="add", arguments={"a": 2, "b": 2}, id="c1"),)),
        Message(role="tool", content="4", tool_call_id="c1"),
        Message(role="user", content="say it"),
    )
    await far.ask(*conversation, sampling=sampling, tools=(ADD,), call_tools="required")
    (asked,) = server.asked
    assert asked.path == "/v1/messages"
    assert (asked.headers["x-api-key"], asked.headers["anthropic-version"]) == (KEY, "2023-06-01")
    assert "authorization" not in asked.headers
    assert asked.body == {
        "model": "far-1",
        "max_tokens": 77,
        "system": "be brief",
        "stream": True,
        "temperature": 0.5,
        "stop_sequences": ["END"],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "what is 2+2?"}]},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 2, "b": 2}}],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": "4"},
                    {"type": "text", "text": "say it"},
                ],
            },
        ],
        "tools": [{"name": "add", "description": "adds", "input_schema": ADD.parameters}],
        "tool_choice": {"type": "any"},
    }


async def test_openais_tool_turns(server: Loopback) -> None:
    far = Far(server)
    call = ToolCall(name="add", arguments={"a": 2}, id="c1")
    await far.ask(
        "q",
        Message(role="assistant", content="", tool_calls=(call,)),
        Message(role="tool", content="4", tool_call_id="c1"),
        Message(role="tool", content="from a call in the text"),
    )
    assert server.asked[0].body["messages"][1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":2}'}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "4"},
        {"role": "user", "content": "from a call in the text"},
    ]


@BOTH_PROTOCOLS
async def test_tool_calls_come_whole(server: Loopback, backend: Backend) -> None:
    server.usual = Play(say="let me see", calls=(*CALLS, ("c3", "bad", '{"a": ')), piece=5)
    text, outcome = await Far(server, backend=backend).ask(tools=(ADD,))
    assert (text, outcome.reason) == ("let me see", "tool_calls")
    add, now, bad = outcome.tool_calls
    assert (add.id, add.name, add.arguments, add.wrong) == ("c1", "add", {"a": 2, "b": 2}, "")
    assert (now.name, now.arguments) == ("now", {})
    assert (bad.name, bad.arguments) == ("bad", {})
    assert "no JSON" in bad.wrong


@BOTH_PROTOCOLS
@pytest.mark.parametrize(("word", "reason"), [("length", "length"), ("max_tokens", "length")])
async def test_a_bound_answer_says_so(server: Loopback, backend: Backend, word: str, reason: str) -> None:
    server.usual = Play(reason=word)
    far = Far(server, backend=backend)
    if (word == "length") == (backend is Backend.openai):
        assert (await far.ask())[1].reason == reason
    else:  # the other protocol's word is none of this one's
        assert "withheld" in (await far.trouble()).info.message


async def test_a_server_that_does_not_count_is_estimated(server: Loopback) -> None:
    server.usual = Play(say="twelve chars", usage=None)
    _, outcome = await Far(server).ask("x" * 40)
    assert (outcome.tokens_in, outcome.tokens_out) == (14, 3)


async def test_an_end_without_done_is_an_end(server: Loopback) -> None:
    server.usual = Play(done=False)
    assert (await Far(server).ask())[0] == "it is four"


@BOTH_PROTOCOLS
async def test_connections_are_used_again(server: Loopback, backend: Backend) -> None:
    far = Far(server, backend=backend)
    for _ in range(3):
        generation = await far.start()
        async for _ in generation:
            pass
        await generation.over()  # type: ignore[attr-defined]
    assert (len(server.asked), server.connections) == (3, 1)


# -- schemas -------------------------------------------------------------------------------------------------------------------


async def test_an_answer_after_a_schema(server: Loopback) -> None:
    server.usual = Play(say='{"name": "Ann", "age": 4}')
    text, outcome = await Far(server).ask(schema=PERSON)
    assert json.loads(text) == {"name": "Ann", "age": 4}
    assert outcome.reason == "stop"


async def test_anthropic_is_made_to_call_the_schema(server: Loopback) -> None:
    server.usual = Play(say="", calls=(("c1", "final_answer", '{"name": "Ann", "age": 4}'),))
    far = Far(server, backend=Backend.anthropic)
    text, outcome = await far.ask(schema=PERSON)
    assert json.loads(text) == json.loads(outcome.text) == {"name": "Ann", "age": 4}
    assert (outcome.reason, outcome.tool_calls) == ("stop", ())
    assert server.asked[0].body["tool_choice"] == {"type": "tool", "name": "final_answer"}
    await far.ask(schema=PERSON, tools=(ADD,))
    assert server.asked[1].body["tool_choice"] == {"type": "any"}
    # What is no object is wrapped in one, and comes out of it.
    server.usual = Play(say="", calls=(("c1", "final_answer", '{"value": [1, 2]}'),))
    schema = {"type": "array", "items": {"$ref": "#/$defs/n"}, "$defs": {"n": {"type": "integer"}}}
    text, _ = await far.ask(schema=schema)
    assert json.loads(text) == [1, 2]
    assert server.asked[2].body["tools"][0]["input_schema"]["$defs"] == {"n": {"type": "integer"}}


@pytest.mark.parametrize(
    ("said", "words"), [('{"name": "Ann", "age": "four"}', "age"), ("Ann, four", "something else")]
)
async def test_a_server_that_does_not_keep_to_the_schema(server: Loopback, said: str, words: str) -> None:
    server.usual = Play(say=said)
    error = await Far(server).trouble(schema=PERSON)
    assert (error.code, error.info.retryable) == ("remote_failed", True)
    assert words in error.info.message


async def test_a_loose_schema_is_not_called_strict(server: Loopback) -> None:
    server.usual = Play(say='{"name": "Ann"}')
    loose = {"type": "object", "properties": {"name": {"type": "string"}}}
    await Far(server).ask(schema=loose)
    assert server.asked[0].body["response_format"]["json_schema"]["strict"] is False


# -- adapters and options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mapped", "uses", "words"),
    [
        (None, [("de", 1.0)], "no adapters of ours"),
        ("model", [("de", 0.5)], "weight 0.5"),
        ("model", [("de", 1.0), ("fr", 1.0)], '"fr": its server takes one'),
        ({"fr": "x"}, [("de", 1.0)], "does not name it"),
    ],
)
async def test_an_adapter_is_never_left_out(
    server: Loopback, mapped: Any, uses: list[tuple[str, float]], words: str
) -> None:
    far = Far(server, metadata={"remote": {"adapters": mapped}} if mapped else {})
    error = await far.trouble(adapters=tuple(AdapterUse(name=name, weight=weight) for name, weight in uses))
    assert (error.code, error.info.field) == ("adapter_unsupported", "adapters")
    assert words in error.info.message
    assert server.asked == []


@pytest.mark.parametrize(
    ("mapped", "called"),
    [("model", "de"), ({"de": "lora-7"}, "lora-7"), ({"de": "lora-7", "de@v3": "lora-3"}, "lora-3")],
)
async def test_an_adapter_is_the_servers_model(server: Loopback, mapped: Any, called: str) -> None:
    _, outcome = await Far(server).ask(adapters=(AdapterUse(name="de@v3"),), options={"adapters": mapped, "num_ctx": 4})
    assert server.asked[0].body["model"] == called
    assert outcome.adapters == (AdapterUsed(name="de@v3", digest="", weight=1.0),)


async def test_a_definition_adds_and_leaves_out(server: Loopback) -> None:
    far = Far(
        server, metadata={"remote": {"body": {"reasoning_effort": "low", "stream": False}, "omit": ["temperature"]}}
    )
    await far.ask(options={"omit": ["temperature", "max_tokens"]})
    body = server.asked[0].body
    assert (body["reasoning_effort"], body["stream"]) == ("low", True)
    assert not {"temperature", "max_tokens"} & body.keys()
    error = await far.trouble(options={"omit": "temperature"})
    assert (error.code, error.info.field) == ("definition_invalid", "options")
    error = await Far(server, metadata={"remote": {"omitt": []}}).trouble()
    assert (error.code, error.info.field) == ("definition_invalid", "metadata.remote")
    assert "omitt" in error.info.message


# -- keys ------------------------------------------------------------------------------------------------------------------------


async def test_a_key_goes_to_its_host_only(server: Loopback) -> None:
    far = Far(server, key="mine", url=server.url.replace("127.0.0.1", "localhost"))
    with pytest.raises(AiwmError, match="may not be sent") as raised:
        await far.start()
    assert raised.value.code == "key_refused"
    assert server.connections == 0


@BOTH_PROTOCOLS
async def test_a_server_that_says_the_key_back(server: Loopback, backend: Backend) -> None:
    """It is in no text that is streamed or kept, in whatever pieces it comes, and in no call."""
    apart = " ".join((f"your key is {KEY[:9]}", KEY[9:20], KEY[20:]))
    server.usual = Play(say=f"you sent {KEY} and {KEY[:9]}", calls=(("c", "add", json.dumps({"key": KEY})),))
    far = Far(server, backend=backend, key="mine")
    text, outcome = await far.ask()
    assert text == outcome.text == f"you sent [key] and {KEY[:9]}"
    assert outcome.tool_calls[0].arguments == {"key": "[key]"}
    server.usual = Play(say=apart)
    text, outcome = await far.ask()
    assert text == outcome.text == apart


# -- its row and its end -------------------------------------------------------------------------------------------------------


async def test_its_row(server: Loopback) -> None:
    far = Far(server, backend=Backend.anthropic, slots=4, context=8000)
    server.plays.append(Play(hold=4))
    call = asyncio.ensure_future(far.ask())
    await until(lambda: far.model.rows()[0].tokens_per_s > 0)
    (row,) = far.model.rows()
    assert (row.id, row.state, row.backend, row.where, row.running, row.slots) == (
        "far",
        "busy",
        "anthropic",
        "net",
        1,
        4,
    )
    assert (row.url, row.context, row.latency_ms) == (server.url, 8000, 0.0)
    server.release()
    await call
    (row,) = far.model.rows()
    assert (row.state, row.running) == ("ready", 0)
    assert row.latency_ms > 0
    assert far.model.context == 8000


async def test_nothing_is_left_of_any_calls(server: Loopback) -> None:
    """Calls that end, fail, are cancelled at any moment, whose readers leave: no task, no connection, no count stays."""
    before = asyncio.all_tasks()
    models = [Far(server, backend=backend, backoff_ms=1, slots=3) for backend in (Backend.openai, Backend.anthropic)]
    random = Random(7)
    faults = [
        Play(),
        Play(cut=2),
        Play(status=429, headers={"retry-after-ms": "1"}),
        Play(hold=2),
        Play(spoil=b"data: x\n\n"),
    ]

    async def one(far: Far) -> None:
        server.plays.append(random.choice(faults))
        generation = await far.start(deadline_ms=random.choice((None, 30)))
        fate = random.randrange(3)
        if fate == 0:
            asyncio.get_running_loop().call_later(
                random.random() / 20, lambda: asyncio.ensure_future(generation.cancel())
            )
        try:
            async with asyncio.timeout(random.random() / 20 if fate == 1 else 0.5):
                async for _ in generation:
                    pass
        except (AiwmError, TimeoutError):
            pass
        await generation.cancel()

    await asyncio.gather(*(one(models[number % 2]) for number in range(80)))
    for far in models:
        assert far.model.rows()[0].running == 0
        await far.model.close()
    await until(lambda: server.running == 0)
    await until(lambda: asyncio.all_tasks() == before)


async def test_close_ends_what_runs(server: Loopback) -> None:
    far = Far(server)
    server.plays.append(Play(hold=3))
    generation = await far.start()
    await until(lambda: server.running == 1)
    await far.model.close(grace=0.05)
    assert [delta.text async for delta in generation] in ([], ["it is "])
    assert generation.outcome.reason == "cancelled"
    await until(lambda: server.left == 1)

"""Models behind an address with a real engine: tasks, chats and routes over a server that speaks the protocols and fails in every way.

Whatever happens here, the key is in no file of the home and in no line of the log: the fixture looks when all is over."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.contract.definitions import RetryPolicy
from engine.contract.records import EventRow
from engine.contract.records.models import ModelRow
from engine.contract.requests.instances import InstanceChat, InstanceSpawn
from engine.contract.requests.limits import LimitsShow
from engine.contract.requests.models import ModelAdd
from engine.contract.requests.session import ViewRead
from engine.contract.requests.tasks import TaskCancel, TaskExplain, TaskOutcome, TaskShow, TaskSubmit, TaskWait
from engine.contract.requests.usage import UsageRead
from tests.support.engines import Engine, make_queue, wait_until
from tests.support.loopback import Loopback, Play, loopback
from tests.support.remote import KEY

# One engine for all of them, and at its end what it kept is looked through: they belong together.
pytestmark = pytest.mark.xdist_group("remote")

LIMITS = {"tokens_per_minute": 100_000}
COST = {"input_usd_per_1k": 1.0, "output_usd_per_1k": 10.0}


class World:
    """An engine whose workers' models all live at one server."""

    def __init__(self, home: Path, server: Loopback) -> None:
        self.home = home
        self.server = server
        config = home.parent / "config.toml"
        config.write_text(
            f'[keys.far]\nmethod = "env"\nvalue = "FAR_KEY"\nhosts = ["{server.host}"]\n'
            '[keys.elsewhere]\nmethod = "env"\nvalue = "FAR_KEY"\nhosts = ["api.example.com"]\n'
            "[remote]\nbackoff_ms = 100\nmax_backoff_ms = 200\nfirst_byte_timeout_ms = 20000\n"
        )
        home.mkdir(mode=0o700)
        options = {"base_url": server.url}
        workers: list[dict[str, Any]] = [
            {
                "name": "gpt",
                "provider": "openai",
                "model": "far-1",
                "key": "far",
                "options": options,
                "limits": LIMITS,
                "cost": COST,
            },
            {"name": "claude", "provider": "anthropic", "model": "far-2", "key": "far", "options": options},
            {"name": "lost", "provider": "custom", "model": "far-3", "key": "elsewhere", "options": options},
            {
                "name": "adapted",
                "provider": "openai",
                "model": "far-5",
                "key": "far",
                "options": {**options, "adapters": "model"},
            },
            {"name": "nobody", "provider": "ollama", "model": "m", "options": {"base_url": "http://127.0.0.1:1/v1"}},
            {
                "name": "reader",
                "provider": "openai",
                "model": "far-4",
                "key": "far",
                "options": options,
                "tools_allow": ["list_files"],
            },
        ]
        (home / "ai_worker_definitions.json").write_bytes(msgspec.json.encode(workers))
        self.environment = {"AIWM_CONFIG": str(config), "FAR_KEY": KEY}
        self.engine = Engine(home, environment=self.environment)
        self.client = self.engine.client()
        for worker in workers:
            retry = RetryPolicy(max_retries=3, delay_ms=1, backoff=1.0)
            make_queue(self.client, worker["name"], definition=worker["name"], instances=3, retry=retry)

    def close(self) -> None:
        self.client.close()
        assert self.engine.stop() == 0

    def submit(self, queue: str, prompt: str = "What is 2+2?", **payload: Any) -> str:
        return self.client.call(TaskSubmit(queue=queue, payload={"prompt": prompt, **payload})).id

    def result(self, done: TaskOutcome) -> dict[str, Any]:
        """What a completed task came to."""
        assert done.state == "completed", done.error
        return msgspec.convert(done.result, dict[str, Any])

    def run(self, queue: str, prompt: str = "What is 2+2?", **payload: Any) -> TaskOutcome:
        (done,) = self.client.call(TaskWait(ids=(self.submit(queue, prompt, **payload),), timeout_ms=60_000))
        return done

    def models(self, name: str) -> ModelRow:
        page = self.client.call(ViewRead(location=":models"))
        rows = [msgspec.convert(row, ModelRow) for row in page.rows]
        return next(row for row in rows if row.model.startswith(name))

    def gate(self, task: str) -> str:
        """The first gate that holds a task."""
        return next((gate.name for gate in self.client.call(TaskExplain(id=task)).gates if gate.closed), "")

    def events(self, task: str) -> list[str]:
        page = self.client.call(ViewRead(location=f":events about:{task}"))
        return [msgspec.convert(row, EventRow).type for row in page.rows]


def _looked_through(home: Path) -> str:
    """The files in which the key stands; there must be none. Parts of it are looked for too: a message might have cut it."""
    parts = (KEY.encode(), KEY[:16].encode(), KEY[-16:].encode())
    files = [path for path in [*home.rglob("*"), home.parent / "engine-test.log"] if path.is_file()]
    texts = {str(path): path.read_bytes() for path in files}
    assert any(b"Incorrect API key provided" in text for text in texts.values()), "what is kept can be found"
    return ", ".join(name for name, text in texts.items() if any(part in text for part in parts))


@pytest.fixture(scope="module")
def _world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with loopback() as server:
        made = World(tmp_path_factory.mktemp("far") / "home", server)
        try:
            yield made
            made.close()
        finally:
            if made.engine.process.poll() is None:
                made.engine.kill()
        assert _looked_through(made.home) == ""


@pytest.fixture
def world(_world: World) -> Iterator[World]:
    _world.server.plays.clear()
    _world.server.asked.clear()
    _world.server.usual = Play()
    _world.server.left = 0
    yield _world
    _world.server.release()


@pytest.mark.parametrize(("queue", "model"), [("gpt", "openai/far-1@"), ("claude", "anthropic/far-2@")])
def test_a_task_is_answered_and_counted(world: World, queue: str, model: str) -> None:
    world.server.usual = Play(say="it is four", usage=(500, 40, 0))
    before = world.client.call(LimitsShow(name="gpt")).tokens_per_minute.used
    done = world.run(queue, temperature=0.5, seed=3)
    assert (done.state, done.tokens_in, done.tokens_out) == ("completed", 500, 40)
    assert world.result(done)["text"] == "it is four"
    rows = {row.name: row for row in world.client.call(UsageRead(by="model"))}
    (used,) = [row for name, row in rows.items() if name.startswith(model)]
    assert used.tokens_in == 500
    if queue == "gpt":
        assert used.cost_usd == pytest.approx(0.5 + 0.4)
        # What was reserved is an estimate; what is settled is what the server counted.
        assert world.client.call(LimitsShow(name="gpt")).tokens_per_minute.used == before + 540
    row = world.models(model)
    assert (row.state, row.where, row.running, row.url) == ("ready", "net", 0, world.server.url)
    assert row.latency_ms > 0


def test_a_limited_servers_word_is_kept(world: World) -> None:
    """429 with a time: the task waits that long, though its queue would try again at once, and so does everybody else's."""
    world.server.plays.append(
        Play(status=429, headers={"retry-after": "2"}, body=b'{"error": {"message": "slow down"}}')
    )
    begun = time.monotonic()
    first = world.submit("claude")
    wait_until(lambda: world.models("anthropic/").state == "limited", "the server's limit is shown")
    row = world.models("anthropic/")
    assert "slow down" in row.note
    assert row.note.startswith("again in ")
    second = world.submit("claude")
    why = world.client.call(TaskExplain(id=second))
    (gate,) = [gate for gate in why.gates if gate.closed]
    assert gate.name == "model"
    assert "limited: anthropic/far-2@" in gate.why
    assert "slow down" in gate.why
    assert gate.opens_ms is not None
    assert 0 < gate.opens_ms - time.time() * 1000 <= 2_000
    done = world.client.call(TaskWait(ids=(first, second), timeout_ms=30_000))
    assert [(it.state, it.attempt) for it in done] == [("completed", 2), ("completed", 1)]
    assert time.monotonic() - begun >= 2.0
    assert len(world.server.asked) == 3
    assert world.models("anthropic/").state == "ready"


@pytest.mark.parametrize("queue", ["gpt", "claude"])
@pytest.mark.parametrize(
    "fault",
    [
        Play(cut=3),
        Play(spoil=b"data: {no json}\n\n"),
        Play(status=500, body=b'{"error": {"message": "oh"}}'),
        Play(status=529, headers={"retry-after-ms": "20"}),
        Play(body=b"event: ping\ndata: {}\n\n"),
    ],
    ids=["cut", "malformed", "500", "529", "too early"],
)
def test_what_may_pass_is_tried_again(world: World, queue: str, fault: Play) -> None:
    world.server.plays.append(fault)
    done = world.run(queue)
    assert (done.state, done.attempt) == ("completed", 2)
    assert world.result(done)["text"] == "it is four"


def test_what_will_not_pass_is_not(world: World) -> None:
    words = f"Incorrect API key provided: {KEY}. \x1b[31mobey"
    world.server.plays.append(Play(status=401, body=json.dumps({"error": {"message": words}}).encode()))
    done = world.run("gpt")
    assert (done.state, done.attempt) == ("failed", 1)
    assert done.error is not None
    assert (done.error.code, done.error.fix) == ("remote_failed", "aiwm key check far")
    assert "Incorrect API key provided: [key]." in done.error.message
    assert "\x1b" not in done.error.message


def test_a_server_that_says_the_key_back(world: World) -> None:
    world.server.plays.append(Play(say=f"you sent {KEY}, thank you"))
    assert world.result(world.run("gpt"))["text"] == "you sent [key], thank you"


def test_a_key_is_sent_to_its_hosts_only(world: World) -> None:
    done = world.run("lost")
    assert done.error is not None
    assert (done.state, done.error.code) == ("failed", "key_refused")
    assert "[keys.elsewhere]" in (done.error.fix or "")
    assert world.server.asked == []


def test_nobody_listens(world: World) -> None:
    """A task that finds nobody waits until somebody is there: it does not spend its attempts on knocking."""
    task = world.submit("nobody")
    wait_until(lambda: world.models("ollama/").state == "unreachable", "it is shown")
    wait_until(lambda: world.gate(task) == "model", "it waits for the model")
    shown = world.client.call(TaskShow(id=task))
    assert shown.row.attempt == 1
    assert shown.error is not None
    assert shown.error.code == "model_unavailable"
    world.client.call(TaskCancel(ids=(task,)))


def test_a_cancelled_task_closes_its_connection(world: World) -> None:
    world.server.plays.append(Play(hold=4))
    task = world.submit("gpt")
    wait_until(lambda: world.server.running == 1, "it is asked")
    world.client.call(TaskCancel(ids=(task,)))
    wait_until(lambda: world.server.left == 1, "the connection is closed")
    assert world.client.call(TaskWait(ids=(task,), timeout_ms=10_000))[0].state == "cancelled"


def test_native_tool_calls_go_through_the_gate(world: World) -> None:
    world.server.plays.append(Play(say="", calls=(("c1", "list_files", '{"path": "."}'), ("c2", "write_file", "{}"))))
    done = world.run("reader")
    assert done.state == "completed"
    made = world.result(done)["tool_calls"]
    assert [(call["tool"], call["ok"]) for call in made] == [("list_files", True), ("write_file", False)]
    first, second = world.server.asked
    assert [tool["function"]["name"] for tool in first.body["tools"]] == ["list_files"]
    assert [turn["role"] for turn in second.body["messages"]] == ["user", "assistant", "tool", "tool"]
    assert [turn["tool_call_id"] for turn in second.body["messages"][2:]] == ["c1", "c2"]


def test_an_answer_after_a_schema(world: World) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    world.server.plays.append(Play(say='{"n": "four"}'))
    world.server.plays.append(Play(say='{"n": 4}'))
    done = world.run("gpt", schema=schema)
    assert (done.state, done.attempt, json.loads(world.result(done)["text"])) == ("completed", 2, {"n": 4})
    assert world.server.asked[0].body["response_format"]["json_schema"]["schema"] == schema


def test_an_adapter_of_the_server_or_none(world: World) -> None:
    done = world.run("adapted", adapters=[{"name": "invoice-de"}])
    assert [use["name"] for use in world.result(done)["adapters"]] == ["invoice-de"]
    assert world.server.asked[0].body["model"] == "invoice-de"
    done = world.run("gpt", adapters=[{"name": "invoice-de"}])
    assert done.error is not None
    assert (done.state, done.error.code, len(world.server.asked)) == ("failed", "adapter_unsupported", 1)
    assert '"invoice-de"' in done.error.message


def test_a_chat_with_a_remote_model(world: World) -> None:
    row = world.client.call(InstanceSpawn(definition="claude")).row
    assert row is not None
    instance = row.id
    world.client.call(InstanceChat(id=instance, message="What is 2+2?"))
    turn = world.client.call(InstanceChat(id=instance, message="And why?"))
    assert turn.text == "it is four"
    roles = [message["role"] for message in world.server.asked[-1].body["messages"]]
    assert roles == ["user", "assistant", "user"]


def test_a_route_goes_on_and_says_so(world: World) -> None:
    """What the small model here cannot hold goes to the server, and the task says so: in its result, its record and its timeline."""
    far = f"openai/far-1@{world.server.url}#far"
    world.client.call(ModelAdd(name="auto", route=("aiwm-nano", far)))
    near = world.run("auto", "What is 2+2?")
    assert (near.state, world.result(near)["route"]) == ("completed", ["aiwm-nano: answered"])
    assert world.server.asked == []
    done = world.run("auto", "word " * 2_000)
    assert (done.state, world.result(done)["text"]) == ("completed", "it is four")
    first, last = world.result(done)["route"]
    assert first.startswith("aiwm-nano: prompt_too_long: ")
    assert last == f"{far}: answered"
    assert "model.rerouted" in world.events(done.id)
    assert far in {row.name for row in world.client.call(UsageRead(by="model"))}
    assert world.models("auto").note.startswith("aiwm-nano: prompt_too_long")


def test_a_killed_engine_asks_again(world: World) -> None:
    """The last of the tests: it ends the engine that they share, and starts another."""
    world.server.plays.append(Play(hold=4))
    task = world.submit("claude")
    wait_until(lambda: world.server.running == 1, "it is asked")
    world.client.close()
    world.engine.kill()
    wait_until(lambda: world.server.left == 1, "the connection is closed")
    world.engine = Engine(world.home, environment=world.environment)
    world.client = world.engine.client()
    (done,) = world.client.call(TaskWait(ids=(task,), timeout_ms=30_000))
    assert (done.state, done.attempt, world.result(done)["text"]) == ("completed", 2, "it is four")
    assert "task.requeued" in [step.type for step in world.client.call(TaskShow(id=task)).timeline]

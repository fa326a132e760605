"""The HTTP door as its clients meet it: a real engine, a real server process, the official client."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest

from engine.contract.requests.fleet import QueuePause, QueueResume
from engine.contract.requests.tasks import TaskCancel, TaskList, TaskShow
from engine.doors.http.serve import TOKEN_FILE
from tests.support.engines import Engine, engine, wait_until
from tests.support.shell import AIWM


class Door:
    """A running `engine http`."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.home = home
        command = [sys.executable, "-P", "-m", "engine", "http", "--home", str(home), "--port", "0", *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        assert "http://" in line, line
        self.url = line.split("http: ", 1)[1].split(" ")[0]

    @property
    def token(self) -> str:
        return (self.home / TOKEN_FILE).read_text().strip()

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url, api_key=self.token, max_retries=0)

    def post(self, body: object, **headers: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.token}", **headers}
        return httpx.post(f"{self.url}/chat/completions", content=json.dumps(body), headers=headers, timeout=30)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=10)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, Door]]:
    home = tmp_path_factory.mktemp("http") / "home"
    with engine(home) as serving:
        door = Door(home)
        yield serving, door
        door.stop()


@pytest.fixture
def door(running: tuple[Engine, Door]) -> Door:
    return running[1]


@pytest.fixture
def serving(running: tuple[Engine, Door]) -> Engine:
    return running[0]


QUESTION: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "What is 27+15?"}]


def test_the_official_client_gets_an_answer(door: Door, serving: Engine) -> None:
    with door.client() as client:
        answer = client.chat.completions.create(model="demo", messages=QUESTION)
    assert answer.choices[0].message.content == "42"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 2
    with serving.client() as engine_client:
        detail = engine_client.call(TaskShow(id=answer.id.removeprefix("chatcmpl-")))
    assert detail.row.state == "completed"
    assert detail.row.by == "token http"


def test_the_official_client_streams_a_chat(door: Door) -> None:
    with door.client() as client:
        stream = client.chat.completions.create(
            model="demo", messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert "".join(text or "" for text in texts) == "42"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


async def test_the_official_client_streams_to_asyncio_too(door: Door) -> None:
    async with openai.AsyncOpenAI(base_url=door.url, api_key=door.token) as client:
        stream = await client.chat.completions.create(model="demo", messages=QUESTION, stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "42"


def test_models_are_workers_and_queues(door: Door) -> None:
    with door.client() as client:
        names = [model.id for model in client.models.list()]
        assert "demo" in names
        assert client.models.retrieve("demo").owned_by == "aiwm"
        with pytest.raises(openai.NotFoundError, match="no worker or queue"):
            client.models.retrieve("gpt-9")


def test_an_unknown_model_is_told_in_openais_shape(door: Door) -> None:
    answer = door.post({"model": "demoo", "messages": QUESTION})
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error["code"] == "model_not_found"
    assert error["param"] == "model"
    assert "demo" in error["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "demo"}, None),
        ({"model": "demo", "messages": []}, "messages"),
        ({"model": "demo", "messages": QUESTION, "n": 2}, "n"),
        ({"model": "demo", "messages": QUESTION, "tools": [{}]}, "tools"),
        ({"model": "demo", "messages": QUESTION, "tool_choice": "required"}, "tool_choice"),
        ({"model": "demo", "messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]}, "messages[0]"),
        ({"model": "demo", "messages": QUESTION, "temperature": "hot"}, "temperature"),
        ({"model": "demo", "messages": QUESTION, "temperature": 99}, "temperature"),
        ({"model": "demo", "messages": [{"role": "wizard", "content": "x"}]}, "messages[0]"),
        ({"model": "demo", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0]"),
        ({"model": "demo", "messages": QUESTION, "response_format": {"type": "xml"}}, "response_format"),
    ],
)
def test_a_request_that_cannot_be_served_names_its_field(door: Door, body: object, param: str | None) -> None:
    answer = door.post(body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_is_too_long_is_told_by_openais_code(door: Door, stream: bool) -> None:
    messages = [{"role": "user", "content": "word " * 5000}]
    answer = door.post({"model": "demo", "messages": messages, "stream": stream})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b"[" * 20_000], ids=["cut", "list", "binary", "deep"])
def test_a_body_that_is_no_request_is_refused(door: Door, body: bytes) -> None:
    answer = httpx.post(f"{door.url}/chat/completions", content=body, headers={"authorization": f"Bearer {door.token}"})
    assert answer.status_code == 400


def test_a_body_that_is_too_large_is_refused_before_it_is_read(door: Door) -> None:
    answer = door.post({"model": "demo", "messages": [{"role": "user", "content": "x" * 2_000_000}]})
    assert answer.status_code == 413


def test_without_the_token_nobody_comes_in(door: Door) -> None:
    for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": door.token}):
        answer = httpx.get(f"{door.url}/models", headers=header)
        assert answer.status_code == 401
        assert answer.json()["error"]["type"] == "authentication_error"
    assert httpx.get(door.url.removesuffix("/v1") + "/health").json() == {"status": "ok"}
    assert oct((door.home / TOKEN_FILE).stat().st_mode & 0o777) == "0o600"


def test_a_page_that_came_by_another_name_is_refused(door: Door) -> None:
    headers = {"authorization": f"Bearer {door.token}", "host": "evil.example"}
    assert httpx.get(f"{door.url}/models", headers=headers).status_code == 401


def test_paths_that_are_not_served_say_what_is(door: Door) -> None:
    answer = httpx.get(f"{door.url}/engines", headers={"authorization": f"Bearer {door.token}"})
    assert answer.status_code == 404
    assert "/v1/chat/completions" in answer.json()["error"]["message"]
    answer = httpx.get(f"{door.url}/chat/completions", headers={"authorization": f"Bearer {door.token}"})
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_cancels_its_task(door: Door, serving: Engine, stream: bool) -> None:
    with serving.client() as client:
        client.call(QueuePause(name="demo", reason="a test"))
        before = client.call(TaskList(where="state:cancelled")).total
        body = {"model": "demo", "messages": QUESTION, "stream": stream}
        try:
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(
                    f"{door.url}/chat/completions",
                    json=body,
                    headers={"authorization": f"Bearer {door.token}"},
                    timeout=0.5,
                )
            wait_until(lambda: client.call(TaskList(where="state:cancelled")).total > before, "the task is cancelled")
        finally:
            client.call(QueueResume(name="demo"))


def test_what_was_cancelled_is_not_asked_again_by_the_client(door: Door, serving: Engine) -> None:
    with serving.client() as client, ThreadPoolExecutor(1) as others, door.client() as ours:
        client.call(QueuePause(name="demo", reason="a test"))
        try:
            patient = ours.with_options(max_retries=2)
            asking = others.submit(patient.chat.completions.create, model="demo", messages=QUESTION, user="again")
            wait_until(lambda: client.call(TaskList(where="tenant:again")).total == 1, "the task waits")
            (waiting,) = client.call(TaskList(where="tenant:again")).rows
            client.call(TaskCancel(ids=(waiting.id,), reason="a test"))
            with pytest.raises(openai.APIStatusError) as told:
                asking.result(timeout=20)
            assert told.value.response.headers["x-aiwm-task"] == waiting.id
            assert client.call(TaskList(where="tenant:again")).total == 1
        finally:
            client.call(QueueResume(name="demo"))


def test_pages_of_others_may_not_ask_where_no_token_is_wanted(tmp_path: Path) -> None:
    door = Door(tmp_path / "home", "--no-token")
    try:
        for origin, status in (("https://evil.example", 401), ("null", 401), ("http://localhost:3000", 405)):
            answer = httpx.get(f"{door.url}/chat/completions", headers={"origin": origin})
            assert answer.status_code == status, origin
    finally:
        door.stop()


def test_a_server_that_stops_waits_for_no_stream_and_cancels_its_task(serving: Engine) -> None:
    door = Door(serving.home)
    body = {"model": "demo", "messages": QUESTION, "stream": True, "user": "stopped"}
    headers, gone = {"authorization": f"Bearer {door.token}"}, "tenant:stopped state:cancelled"
    with serving.client() as client:
        client.call(QueuePause(name="demo", reason="a test"))
        try:
            with httpx.stream("POST", f"{door.url}/chat/completions", json=body, headers=headers, timeout=20) as answer:
                lines = answer.iter_lines()  # kept: without it the connection would be closed
                assert next(lines).startswith("data: ")
                assert door.stop() in (0, -15)
            wait_until(lambda: client.call(TaskList(where=gone)).total == 1, "it is cancelled")
        finally:
            client.call(QueueResume(name="demo"))


def test_fifty_clients_at_once_are_answered(door: Door) -> None:
    async def all_of_them() -> list[str | None]:
        async with openai.AsyncOpenAI(base_url=door.url, api_key=door.token, max_retries=0) as client:
            asked = [client.chat.completions.create(model="demo", messages=QUESTION) for _ in range(50)]
            return [answer.choices[0].message.content for answer in await asyncio.gather(*asked)]

    assert asyncio.run(all_of_them()) == ["42"] * 50


def test_a_restarted_engine_is_found_again(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = Engine(home)
    door = Door(home, "--no-token")
    try:
        ask = {"model": "demo", "messages": QUESTION}
        assert httpx.post(f"{door.url}/chat/completions", json=ask, timeout=30).status_code == 200
        first.kill()
        answer = httpx.get(door.url.removesuffix("/v1") + "/health", timeout=30)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_unreachable"), "none is started"
        second = Engine(home)
        assert httpx.post(f"{door.url}/chat/completions", json=ask, timeout=30).status_code == 200
        second.stop()
    finally:
        assert door.stop() in (0, -15)


def test_an_open_address_without_a_token_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "engine", "http", "--home", str(tmp_path / "home"), "--host", "0.0.0.0"]
    done = subprocess.run([*command, "--no-token"], capture_output=True, text=True, env=dict(os.environ), timeout=30)
    assert done.returncode == 2
    assert "without a token" in done.stderr


def test_a_read_only_door_shows_models_and_submits_nothing(serving: Engine) -> None:
    door = Door(serving.home, "--read-only")
    try:
        assert [model.id for model in door.client().models.list()]
        answer = door.post({"model": "demo", "messages": QUESTION, "user": "looker"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "read_only")
        with serving.client() as client:
            assert client.call(TaskList(where="tenant:looker")).total == 0
    finally:
        door.stop()


def test_what_stands_before_the_verb_reaches_the_door(serving: Engine) -> None:
    command = [*AIWM, "--home", str(serving.home), "--read-only", "http", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            url = process.stderr.readline().split("http: ", 1)[1].split(" ")[0]
            headers = {"authorization": f"Bearer {(serving.home / TOKEN_FILE).read_text().strip()}"}
            asked = {"model": "demo", "messages": QUESTION}
            assert httpx.post(f"{url}/chat/completions", json=asked, headers=headers, timeout=30).status_code == 403
        finally:
            process.terminate()


def test_a_home_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-P", "-m", "engine", "http", "--home", str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    told = json.loads(done.stderr)
    assert (done.returncode, told["code"], told["fix"]) == (2, "config_invalid", "choose another --home")

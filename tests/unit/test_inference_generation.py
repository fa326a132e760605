"""A generation as its reader sees it, whatever order the process's words are handled in."""

from __future__ import annotations

from typing import Any

from engine.inference import protocol
from engine.inference.generation import LocalGeneration
from engine.ports import GenerateRequest, Message


class Quick:
    """A process whose answer has ended before its word to the request is handled."""

    id = "nano.0"

    async def generate(self, asking: Any, sink: Any) -> protocol.GenerateResult:
        request = asking() if callable(asking) else asking
        sink.delta(protocol.DeltaNote(request.id, "42", 1))
        sink.done(
            protocol.DoneNote(id=request.id, reason="stop", tokens_in=3, tokens_out=1, first_token_ms=1.0, total_ms=1.0)
        )
        return protocol.GenerateResult(tokens_in=3, prompt="<|user|>What is 20+22?")


async def test_an_answer_that_ends_at_once_still_says_what_was_read() -> None:
    process: Any = Quick()

    async def place() -> Any:
        return process

    request = GenerateRequest(messages=(Message(role="user", content="What is 20+22?"),))
    generation = LocalGeneration(place, request, (), "t-10001/1")
    await generation.start()
    assert [delta.text async for delta in generation] == ["42"]
    assert (generation.outcome.text, generation.outcome.prompt) == ("42", "<|user|>What is 20+22?")

"""The agentic loop: a model answers, or calls tools and is given their results, until it answers or its steps are used up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from engine.contract.errors import AiwmError, Code
from engine.ports import GenerateRequest, Message, Outcome, ToolAnswer, ToolBox
from engine.workers.calls import MOST_AT_ONCE, Call, Malformed, Withheld, calls_in
from engine.workers.template import WorkerContext

_OPENING = '<data from="'
_KEPT_CHARS = 500
_SHRINKS = 12
_LEAST_CHARS = 40


class Talked(msgspec.Struct, frozen=True):
    """A conversation's end: the last call of the model, all of them in order, and the tool calls as the result keeps them."""

    outcome: Outcome
    outcomes: tuple[Outcome, ...]
    tool_calls: tuple[dict[str, Any], ...]


async def talk(
    request: GenerateRequest,
    context: WorkerContext,
    tools: ToolBox,
    max_steps: int,
    time_left: Callable[[], int | None],
) -> Talked:
    """Run the loop. A call that is required is required of the first answer. Raises `step_limit` when the model still calls tools in its
    last step, `output_invalid` when it calls none where it must, `output_not_json` for a call that broke off; other errors are the
    model's own."""
    messages = list(request.messages)
    outcomes: list[Outcome] = []
    made: list[dict[str, Any]] = []
    for step in range(1, max_steps + 1):
        must = request.call_tools if step == 1 else "auto"
        asked = msgspec.structs.replace(request, tools=tools.declared, deadline_ms=time_left(), call_tools=must)
        outcome, unshown = await _answer(asked, messages, context)
        outcomes.append(outcome)
        calls = _calls_of(outcome, must)
        if not calls:
            if unshown:
                context.write(unshown)
            return Talked(outcome, tuple(outcomes), tuple(made))
        messages.append(
            Message(role="assistant", content=outcome.text.strip(), tool_calls=outcome.tool_calls[:MOST_AT_ONCE])
        )
        if isinstance(calls, Malformed):
            messages.append(_data("tool_call", f"not understood: {calls.why}"))
            made.append({"step": step, "tool": "", "verdict": "malformed", "ok": False, "text": calls.why})
            continue
        for call in calls:
            answer = _misread(call) if call.wrong else await tools.call(call.tool, call.arguments)
            messages.append(_data(answer.tool, answer.text, call.id))
            made.append(_kept(step, call, answer))
    raise AiwmError(
        Code.step_limit,
        f"after {max_steps} model calls it still calls tools, {made[-1]['tool'] or 'not understood'} last",
        field="max_steps",
        fix="raise max_steps of its definition, or see its timeline for what it repeats",
    )


def _calls_of(outcome: Outcome, must: str) -> tuple[Call, ...] | Malformed:
    """The calls that an answer is: those that a model with native tool calling made, or those that its text is."""
    if outcome.tool_calls:
        return tuple(Call(call.name, call.arguments, call.id, call.wrong) for call in outcome.tool_calls[:MOST_AT_ONCE])
    calls = calls_in(outcome.text)
    if outcome.reason == "length" and (must == "required" or isinstance(calls, Malformed)):
        message = f"a tool call broke off at {outcome.tokens_out:,} tokens"
        raise AiwmError(Code.output_not_json, message, field="max_tokens", retryable=True)
    if outcome.reason != "stop":
        return ()
    if not calls and must == "required":
        raise AiwmError(Code.output_invalid, "a tool call was required, and the model made none", retryable=True)
    return calls


async def _answer(request: GenerateRequest, messages: list[Message], context: WorkerContext) -> tuple[Outcome, str]:
    """One model call, and what of its text was not shown because it may be a call. Where the prompt is too long for the model, the longest
    tool result is cut, again and again: a model with a small context sees the beginning of a file rather than nothing."""
    for attempt in range(_SHRINKS + 1):
        try:
            asked = msgspec.structs.replace(request, messages=tuple(messages))
            generation = await context.generate(asked)
            withheld = Withheld()
            async for delta in generation:
                if piece := withheld.push(delta.text):
                    context.write(piece)
        except AiwmError as error:
            if error.code != Code.prompt_too_long or attempt == _SHRINKS or not _shrink(messages):
                raise
            continue
        return generation.outcome, withheld.rest
    raise AssertionError("unreachable")


def _shrink(messages: list[Message]) -> bool:
    """Halve the longest tool result; False when none is left to cut."""
    found = [
        (len(turn.content), index)
        for index, turn in enumerate(messages)
        if turn.role == "tool" and turn.content.startswith(_OPENING)
    ]
    if not found or max(found)[0] < _LEAST_CHARS * 2:
        return False
    length, index = max(found)
    opening, _, body = messages[index].content.partition("\n")
    cut = body.removesuffix("\n</data>").removesuffix("\n… cut")[: (length - len(opening)) // 2]
    messages[index] = msgspec.structs.replace(messages[index], content=f"{opening}\n{cut}\n… cut\n</data>")
    return True


def _data(tool: str, text: str, call: str = "") -> Message:
    """A result, the answer to this call, between marks that it cannot close itself: data, whatever it says."""
    inert = text.replace("</data", "<\\/data").replace("<data", "<\\data")
    return Message(role="tool", content=f'{_OPENING}{tool[:64]}">\n{inert}\n</data>', tool_call_id=call)


def _misread(call: Call) -> ToolAnswer:
    """The answer to a call that could not be read: nobody was asked to make it."""
    text = f"not understood: {call.wrong}"
    return ToolAnswer(tool=call.tool[:64], verdict="malformed", gate="arguments", ok=False, text=text)


def _kept(step: int, call: Call, answer: ToolAnswer) -> dict[str, Any]:
    text = answer.text if len(answer.text) <= _KEPT_CHARS else f"{answer.text[:_KEPT_CHARS]}…"
    return {
        "step": step,
        "tool": answer.tool,
        "arguments": call.arguments,
        "verdict": answer.verdict,
        "gate": answer.gate,
        "ok": answer.ok,
        "text": text,
        "ms": answer.ms,
    }

"""Requests as data: every class is complete, and ids are two spellings of one number."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract.errors import AiwmError
from engine.contract.ids import task_id, task_seq
from engine.contract.invalid import invalid
from engine.contract.requests import catalogue
from engine.contract.requests.base import result_type


@pytest.mark.parametrize("method", sorted(catalogue().by_method))
def test_a_request_is_whole(method: str) -> None:
    kind = catalogue().by_method[method]
    assert kind.__doc__
    assert kind.effect in ("read", "write", "destructive")
    noun, _, verb = method.partition(".")
    assert noun.isalpha()
    assert verb.isalpha()
    msgspec.json.schema(kind)
    result_type(kind)


def test_aliases_find_their_request_and_a_misspelling_its_neighbour() -> None:
    assert catalogue().find("aiWorkerWorkQueue.submitTask").method == "task.submit"
    with pytest.raises(AiwmError) as caught:
        catalogue().find("task.sumbit")
    assert caught.value.info.fix == 'did you mean "task.submit"?'


def test_an_unknown_field_is_named_with_its_neighbour() -> None:
    kind = catalogue().find("task.submit")
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(b'{"queue": "demo", "priorty": 3}', type=kind)
    error = invalid(caught.value, kind)
    assert (error.info.field, error.info.fix) == ("priorty", 'did you mean "priority"?')


@given(st.integers(1, 2**53))
def test_ids_come_back_as_their_numbers(seq: int) -> None:
    assert task_seq(task_id(seq)) == seq
    assert len(task_id(seq)) >= 7


@pytest.mark.parametrize("text", ["", "t-", "t-1", "x-10001", "t-1000l", "t-" + "z" * 50, "t-10000", "10001", "t-\x00"])
def test_what_is_no_id_is_not_found(text: str) -> None:
    with pytest.raises(AiwmError) as caught:
        task_seq(text)
    assert caught.value.code == "not_found"

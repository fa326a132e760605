"""Short typed ids. A task's number and its id are two spellings of one thing, so no index is needed to find it."""

from __future__ import annotations

from functools import lru_cache

from engine.contract.errors import AiwmError, Code

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUE = {character: value for value, character in enumerate(_ALPHABET)}
# The first task is t-10001: five characters for the first 33 million, so columns stay aligned.
_OFFSET = 32**4


def _base32(value: int) -> str:
    digits = []
    while True:
        value, rest = divmod(value, 32)
        digits.append(_ALPHABET[rest])
        if not value:
            return "".join(reversed(digits))


@lru_cache(maxsize=65_536)
def task_id(seq: int) -> str:
    """The id of task number `seq` (1, 2, …): `t-` and at least five characters of base 32 without i, l, o, u."""
    return "t-" + _base32(seq + _OFFSET)


def task_seq(identifier: str) -> int:
    """The number behind a task id; raises `not_found` for anything that is not one."""
    body = identifier[2:] if identifier.startswith("t-") else ""
    try:
        value = 0
        for character in body:
            value = value * 32 + _VALUE[character]
    except KeyError:
        value = 0
    # Longer than 12 characters would not fit SQLite's 64-bit integers.
    if not body or len(body) > 12 or value <= _OFFSET:
        raise AiwmError(Code.not_found, f'task "{identifier[:40]}" does not exist', field="id", fix="aiwm task list")
    return value - _OFFSET


def instance_id(number: int) -> str:
    return f"i-{number:02d}"

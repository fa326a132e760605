"""Exit codes of every command, and the one function that maps an error code to them."""

from __future__ import annotations

from enum import IntEnum

from engine.contract.errors import Code


class ExitCode(IntEnum):
    ok = 0
    failed = 1
    usage = 2
    unreachable = 3
    timeout = 4
    refused = 5
    interrupted = 130


_OF = {
    ExitCode.usage: (
        Code.bad_request,
        Code.unknown_method,
        Code.not_found,
        Code.bad_location,
        Code.config_invalid,
        Code.definition_invalid,
        Code.payload_invalid,
        Code.payload_too_large,
        Code.file_not_found,
        Code.tool_unknown,
        Code.tool_arguments,
        Code.key_not_found,
        Code.recording_invalid,
    ),
    ExitCode.unreachable: (
        Code.engine_unreachable,
        Code.engine_stopping,
        Code.connection_lost,
        Code.protocol_mismatch,
    ),
    ExitCode.timeout: (Code.timeout,),
    ExitCode.refused: (
        Code.read_only,
        Code.needs_confirmation,
        Code.denied,
        Code.too_many_rows,
        Code.not_recorded,
        Code.path_violation,
        Code.quota_exceeded,
        Code.source_unusable,
        Code.tool_denied,
        Code.tool_not_allowed,
        Code.tool_blocked,
        Code.key_refused,
    ),
}
_BY_CODE = {str(code): exit_code for exit_code, codes in _OF.items() for code in codes}


def exit_code_of(code: str) -> ExitCode:
    """The exit code for an error code. A code that this version does not know means that the operation failed."""
    return _BY_CODE.get(code, ExitCode.failed)

"""`engine run`: an engine from its command line to its exit code."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import BinaryIO

import msgspec

from engine.clock import SystemClock
from engine.config import LoadedConfig, load_config
from engine.contract.errors import AiwmError, Code
from engine.home import database_path, default_home, lock_path, make_home
from engine.host import Host, Options
from engine.lock import HomeLock
from engine.store.store import Store

_PATIENCE_S = 10.0  # for an engine that a command has started to go


def run(arguments: list[str], pipe: tuple[BinaryIO, BinaryIO] | None) -> int:
    """`engine run`: take the home's lock, open the store, serve. Exit codes: 0 stopped, 1 failed, 2 configuration, 75 home is taken."""
    parser = argparse.ArgumentParser(prog="aiwm engine run", description="Serve a home until stopped.")
    parser.add_argument("--home", type=Path, default=None, help="the home to serve")
    parser.add_argument("--stdio", action="store_true", help="serve the client at stdin and stdout too")
    parser.add_argument("--on-demand", action="store_true", help="leave 2 s after the last client")
    parser.add_argument("--read-only", action="store_true", help="answer no request that changes anything")
    parsed = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True
    )
    home = (parsed.home or default_home()).expanduser().absolute()
    try:
        loaded = load_config()
        make_home(home)
        options = Options(home=home, on_demand=parsed.on_demand, read_only=parsed.read_only, attached=pipe is not None)
        # One that a client started goes with its clients: who starts one to stay waits for that, right after a command.
        brief = options.on_demand or options.attached
        lock = HomeLock(lock_path(home), brief=brief, patience_s=0.0 if brief else _PATIENCE_S)
        try:
            return asyncio.run(_serve(options, loaded, pipe))
        finally:
            lock.release()
    except AiwmError as error:
        return say(error)
    except OSError as error:
        return say(
            AiwmError(
                Code.config_invalid,
                f"{error.filename or home}: {error.strerror}",
                field="home",
                fix="choose another --home",
            )
        )


async def _serve(options: Options, loaded: LoadedConfig, pipe: tuple[BinaryIO, BinaryIO] | None) -> int:
    crashes = loaded.config.scheduling.max_crashes
    store = Store.open(database_path(options.home), clock=SystemClock(), max_crashes=crashes)
    try:
        return await Host(options, loaded, store).run(pipe)
    except AiwmError:
        await store.close()
        raise


def say(error: AiwmError) -> int:
    """The last line on stderr says why the engine did not start; a client that started it reads it from the log."""
    if sys.stderr.isatty():
        print(f"aiwm: {error}", file=sys.stderr)
    else:
        line = {"v": 1, "kind": "error", **msgspec.to_builtins(error.info)}
        sys.stderr.buffer.write(msgspec.json.encode(line) + b"\n")
        sys.stderr.buffer.flush()
    if error.code == Code.engine_running:
        return os.EX_TEMPFAIL
    return 2 if error.code in (Code.config_invalid, Code.definition_invalid) else 1

"""`python -P -m engine run|replay|simulate|key|http`: the engine process.

The protocol's pipe is made safe before anything else is imported."""

from __future__ import annotations

import sys


def main(arguments: list[str]) -> int:
    """Run a verb; its exit code."""
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if verb in ("run", "replay"):
        return _run(verb, rest)
    if verb == "simulate":
        from engine.scheduling.simulate import main as simulate

        return simulate(rest)
    if verb == "key":
        from engine.keys.writing import main as write_key

        return write_key(rest)
    if verb == "http":
        from engine.doors.http.serve import main as serve_http

        return serve_http(rest)
    print(f'engine: unknown verb "{verb[:40]}" (run, replay, simulate, key or http)', file=sys.stderr)
    return 2


def _run(verb: str, rest: list[str]) -> int:
    pipe = None
    if "--stdio" in rest:
        from engine.wire.child import protect_stdio

        pipe = protect_stdio()
    if verb == "replay":
        from engine.replaying.host import run as replay

        return replay(rest, pipe)
    from engine.running import run

    return run(rest, pipe)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The pure scheduler: what starts where and when, why something does not, and the simulation that proves it.

A deterministic state machine, `Scheduler.step(input, now) -> [decisions]`, with its inputs, decisions, gates and retry rules. It
never reads a clock, a file or a socket, never awaits and never draws a random number of its own: time and everything that happened
come in as inputs. It imports `engine.contract`, msgspec and the standard library, nothing else. Performing decisions is `control`'s
business, writing rows is `store`'s.
"""

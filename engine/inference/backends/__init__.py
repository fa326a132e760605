"""The in-process backends and the protocol they share (`base`). A backend turns admitted requests into text, one step at a
time, on one thread. What may not live here: pipes, asyncio, supervision, and any choice of which request goes first."""

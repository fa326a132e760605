"""Recordings: what is committed and what is seen, written to a file while it happens.

Here live the lines of a recording, what is left out of it on request, and the recorder. Nothing here decides anything or keeps
anything that the engine needs; what plays a recording is the room `replaying`."""

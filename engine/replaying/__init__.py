"""Playing recordings: an engine that is what another one was, at any moment that was recorded, and changes nothing.

Here live the tape (the file and its moments), the player (what was true at a moment, forward and back) and the host that answers over
the same pipe as a live engine. It is made of the live engine's rooms; none of them dispatches, loads, writes or notifies here."""

"""The reference backend: a Llama-family Hugging Face directory run by numpy alone. It is the embedded default and the
oracle that other backends are tested against, so it is written to be read: start at `model.py`, then `backend.py`.
What may not live here: torch, pickle, remote code, threads."""

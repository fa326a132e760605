"""Models: the processes that hold them, their load and memory."""

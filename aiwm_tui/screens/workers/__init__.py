"""Workers: the worker definitions."""

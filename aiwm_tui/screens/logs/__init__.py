"""The logs: a table of them, and one log as text."""

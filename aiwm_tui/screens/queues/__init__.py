"""Queues: what waits in each, and for what."""

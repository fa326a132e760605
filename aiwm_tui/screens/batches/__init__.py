"""Batches: tasks that belong together."""

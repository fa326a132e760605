"""Lessons: what was learned, and for which tasks."""

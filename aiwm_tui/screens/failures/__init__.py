"""Failures, equal ones folded into one line."""

"""The screen of instances that are no more."""

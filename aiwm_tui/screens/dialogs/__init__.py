"""Dialogs: what must be asked before something is changed. Each returns what was decided, or None when nothing is to change."""

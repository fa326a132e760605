"""Doors: how requests come in. A door turns bytes into handler calls and answers into bytes; it decides nothing."""

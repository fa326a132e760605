"""Data sources: guarded places to read files from."""

"""The built-in kinds, one file each, found by entry point like everyone else's."""

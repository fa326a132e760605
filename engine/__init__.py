"""The engine: everything that happens. Rooms and their order are in pyproject.toml (import-linter); nothing here touches a terminal."""

__version__ = "0.1.0"

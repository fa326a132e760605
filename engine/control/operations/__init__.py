"""The manager's answers to requests, a module a noun."""

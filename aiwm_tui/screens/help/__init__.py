"""The list of all keys for where one is, made from the table of actions."""

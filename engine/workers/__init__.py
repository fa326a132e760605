"""Workers: the kinds that process tasks, where they are found, and the supervised process of isolated kinds.

A kind gets a task and a context and nothing else: never the database, never a key, never another worker's state."""

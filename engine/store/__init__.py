"""The store: one SQLite file, its schema and migrations, the journal (the only way to write) and the readers.

Here live SQL and durability, and nothing else: no decision about tasks is made here, nobody is told of a state that is not on disk
at its queue's durability. Rooms above hand in operations (`ops`) and get receipts; they never see a connection."""

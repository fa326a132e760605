"""Live views: windows on tables that clients keep open, and what changed in them since they were last told.

Here live the bookkeeping of open windows, their diffs and their pace. What the rows are is `control`'s and `store`'s business, what
they look like the console's; nothing is decided or written here."""

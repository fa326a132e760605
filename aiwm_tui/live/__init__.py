"""What the console knows, without a terminal: connection, live views, followed text, history, and how values are written.

Everything here is plain data and pure functions over the contract's records, plus the two small objects that talk to the client
(`link`, `views`). Nothing in this folder imports textual; nothing decides what a thing looks like beyond naming a style."""

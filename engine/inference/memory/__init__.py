"""Where models fit: what a load will take (`estimate`), what devices there are and who holds them (`devices`, `ledger`), and the numbered
ways to make room (`plan`, pure). Nothing in here starts or ends a process."""

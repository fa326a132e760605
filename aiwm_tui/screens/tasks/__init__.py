"""Tasks: the table of all of them, and the page of one with its text as it is written."""

"""Which models there are, and what can be said of one before it runs.

Here live the book of models (definitions by name), the reading of model files by their headers, the verdict on a directory or file, the
search for servers of this machine, and what llama-swap's configuration becomes. Nothing in here loads weights or starts a process."""

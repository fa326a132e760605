"""Files of batches: tasks that are read from one, results that are written to one. The command line and the console use the same."""

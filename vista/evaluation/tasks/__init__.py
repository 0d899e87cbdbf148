"""What lmms-eval needs to know of a file of queries: a task template and the functions it names."""

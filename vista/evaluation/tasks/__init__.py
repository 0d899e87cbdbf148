"""What lmms-eval needs to know about a file of queries: a task template and the functions it names."""

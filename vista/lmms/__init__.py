"""lmms-eval's own tasks: found by name, read, and scored as lmms-eval does it."""

"""The testbed: questions about grids of digits whose every fact is known."""

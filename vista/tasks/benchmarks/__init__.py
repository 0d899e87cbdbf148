"""Published benchmarks: one small adapter each, and what they share. Part of stage ``tasks``."""

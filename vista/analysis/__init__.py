"""Stage 7, ``analysis``: predictions → ``long.csv`` → tables (``vista collect``, ``tables``, ``cost``)."""

"""Stage 7, ``analysis``: predictions → ``long.csv`` → tables; and what only the testbed can measure."""

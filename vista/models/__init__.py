"""Stage 2, ``models``: base checkpoints, built from scratch or resolved. Run by ``vista models``."""

"""Stage 6, evaluation: from a checkpoint and test queries, through lmms-eval, to predictions."""

"""The figures: one script each, from tables to PDF and PNG; ``drawing`` has what they share."""

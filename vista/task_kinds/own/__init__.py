"""Data of the user's own (``kind: table``): its files, their cells, and how rows become splits."""

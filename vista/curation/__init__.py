"""Stage 4, ``curation``: rollouts and a method → a training set (``vista curate``)."""

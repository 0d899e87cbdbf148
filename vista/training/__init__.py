"""Stage 5, ``training``: a training set and a start checkpoint → a checkpoint (``vista train``)."""

"""Takes a run's training set or checkpoint home, in the form that other programs read (``vista export``).

No stage: no rule runs it, and it changes nothing in the results.
"""

"""Before anything is spent: what a suite would cost (``vista plan``), and what is amiss (``vista doctor``).

No stage: the DAG runs nothing of it. It is free of torch, but for the doctor's look at the GPUs, and
touches no network.
"""

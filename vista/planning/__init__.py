"""Before anything is spent: what a suite would run and cost (``vista plan``), and whether it can (``vista doctor``).

No stage: nothing here is run by the DAG. Free of torch, and of the network, but for what ``doctor`` looks at.
"""

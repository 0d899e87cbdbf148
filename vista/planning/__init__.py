"""Before a run: what a suite would cost (``vista plan``), and what is wrong with it (``vista doctor``).

Not a stage: no rule runs any of it. It imports torch only where the doctor looks at GPUs and
checkpoints, and never uses the network.
"""

"""Before anything is spent: what a suite would cost (``vista plan``), and what is wrong (``vista doctor``).

Not a stage: no rule runs any of it. It does not import torch, except where the doctor looks at GPUs and
checkpoints, and never uses the network.
"""

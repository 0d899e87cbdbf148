"""Running a model, for every stage that does: loading and saving, batching, sampling.

The only part of vista that is shared between stages and needs torch.
"""

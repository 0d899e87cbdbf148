"""What runs a model, for every stage that does: loading and saving, batching, sampling.

The only part of vista shared between stages that needs torch.
"""

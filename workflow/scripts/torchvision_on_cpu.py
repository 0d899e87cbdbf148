"""Let torchvision import beside a CPU build of torch of the same version.

The registry's torchvision is built for CUDA. Without CUDA's libraries its compiled operators do
not load, and its import fails because it describes two of them that are then unknown. Naming
them is enough: nothing here calls them. `make test-vllm` copies this file into its environment
as ``sitecustomize.py``, since vLLM also imports torchvision in its own processes.
"""

import sys
from importlib.abc import MetaPathFinder


class _NameOperators(MetaPathFinder):
    """Finds no module; names the operators when torchvision is about to describe them."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname == "torchvision._meta_registrations":
            import torch

            if not sys.modules["torchvision.extension"]._has_ops():
                for name in ("nms", "qnms"):
                    torch.library.define(f"torchvision::{name}", "(Tensor d, Tensor s, float t) -> Tensor")
        return None


sys.meta_path.insert(0, _NameOperators())

"""Looks into the pickles of a training state before anybody else does. It serves ``vista train``.

torch stores optimisers, schedules and random states as pickles, which can run code when they are
read. transformers reads them as tensors and plain values only, and fails halfway on anything else;
FSDP's sharded states torch reads without such care. So here every file is read in the careful way
first, and a state with more in it than it should have is refused as a whole.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import BytesStorageMetadata
from transformers.trainer_pt_utils import safe_globals

from vista.errors import VistaError

SUFFIXES = (".pt", ".pth", ".bin")
NEVER_READ = "training_args.bin"  # written by transformers, and of no use to a resumed run
SHARDS = ".metadata"  # ends the names of descriptions of FSDP's sharded states

_METADATA = "torch.distributed.checkpoint.metadata"
_NAMES = (
    *("BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta"),
    *("TensorProperties", "TensorStorageMetadata", "_MEM_FORMAT_ENCODING"),
)
# All that torch puts into a description of shards, beside types of weights; none of it runs code.
KNOWN = {
    *(f"{_METADATA}.{name}" for name in _NAMES),
    "torch.distributed.checkpoint.filesystem._StorageInfo",
    "torch.serialization._get_layout",
    "torch.Size",
    "pathlib.PosixPath",
    "collections.OrderedDict",
}


def check_state(state: Path) -> None:
    """Refuse a state whose pickles hold anything but tensors, plain values and descriptions of these.

    Args:
        state: The folder of one state, as Trainer writes it.

    Raises:
        VistaError: names the first such file, or one that is broken.
    """
    for file in sorted(state.rglob("*")):
        try:
            if file.name.endswith(SHARDS):
                _check_shards(file)
            elif file.suffix in SUFFIXES and file.name != NEVER_READ:
                with safe_globals():  # numpy's random state
                    torch.load(file, map_location="meta", mmap=True, weights_only=True)
        except Exception as error:  # torch raises many kinds for a broken file
            reason = str(error).strip().splitlines()
            raise VistaError(
                f"{file}: not a training state that can be trusted ({reason[0] if reason else error!r}); "
                f"delete {state} and run again"
            ) from error


class _Description(pickle.Unpickler):
    """Reads a description of shards, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """What a description may hold.

        Raises:
            pickle.UnpicklingError: it is something else.
        """
        full = f"{module}.{name}"
        if full in KNOWN or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{full} has no place in it")


def _check_shards(file: Path) -> None:
    """A description, and the values that torch would unpickle as it says."""
    with file.open("rb") as opened:
        described = _Description(opened).load()
    for index, place in described.storage_data.items():
        if isinstance(described.state_dict_metadata[index.fqn], BytesStorageMetadata):
            with (file.parent / place.relative_path).open("rb") as shard:
                shard.seek(place.offset)
                torch.load(io.BytesIO(shard.read(place.length)), weights_only=True)

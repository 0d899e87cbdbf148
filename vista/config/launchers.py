"""What is wrong with a model's config file of accelerate, told when the suite is read."""

from __future__ import annotations

from typing import Any

from vista.config.documents import load_yaml
from vista.config.models import ModelTraining
from vista.config.suites import Suite
from vista.errors import VistaError

# accelerate's names for the ways in which processes share a training.
KINDS = (
    *("NO", "MULTI_CPU", "MULTI_GPU", "FSDP", "DEEPSPEED", "MEGATRON_LM", "TP", "XLA"),
    *("MULTI_NPU", "MULTI_MLU", "MULTI_SDAA", "MULTI_MUSA", "MULTI_XPU"),
)
# Of these accelerate starts one process (more of MULTI_CPU only through MPI), does not tell it that it did,
# and leaves it to itself when it is killed.
SINGLE = ("NO", "MULTI_CPU")
ARITHMETIC = ("no", "bf16", "fp16")  # accelerate's names


def launching_problems(suite: Suite, path: str) -> list[str]:
    """What is wrong with the files of accelerate that models name.

    Of no concern to a resolved suite: who reads results that were copied may have none of these files.
    """
    return [
        f"{path}: {problem}"
        for model, entry in suite.models.items()
        for problem in launcher_problems(entry.training, model)
    ]


def launcher_problems(training: ModelTraining, model: str) -> list[str]:
    """What the launcher or a later resume would fail on, one line each, and how to mend it.

    States to resume from are read as weights only. FSDP's version 1 stores ``ShardedTensor`` objects, and
    DeepSpeed's stages below 3 objects that say where weights are.
    """
    file, asks = training.accelerate, f"training.accelerate of model {model}"
    if file is None:
        return []
    if not file.is_file():
        return [
            f"model {model}: training.accelerate: {file} does not exist; it is a config file of accelerate, "
            "such as config/accelerate/fsdp.yaml"
        ]
    try:
        config = load_yaml(file)
    except VistaError as error:
        return [f"{error} ({asks})"]
    kind = config.get("distributed_type")
    if kind is None:
        return [
            f"{file}: no distributed_type, so this is not a config file of accelerate; name another under "
            f"{asks}"
        ]
    problems = [
        f"{file}: {name}: expected a mapping of keys to values, found {type(config[name]).__name__} ({asks})"
        for name in ("fsdp_config", "deepspeed_config")
        if not isinstance(config.get(name) or {}, dict)
    ]
    remove = f"or remove save_every and save_minutes from training of model {model}"
    if kind not in KINDS:
        problems.append(
            f"{file}: distributed_type: {kind!r} is not known to accelerate; write one of {', '.join(KINDS)} "
            f"({asks})"
        )
    if kind == "DEEPSPEED" and training.saves and _zero_stage(config) != "3":
        problems.append(
            f"{file}: states below ZeRO-3 could only be unpickled and could run code; set zero_stage: 3 "
            f"under deepspeed_config, {remove}"
        )
    if kind == "FSDP" and training.saves and _fsdp_version(config) == "1":
        problems.append(
            f"{file}: states of FSDP version 1 could only be unpickled and could run code; set fsdp_version: "
            f"2 under fsdp_config, {remove}"
        )
    if kind in SINGLE and training.processes > 1:
        problems.append(
            f"{file}: distributed_type: {kind} is one process, but model {model} asks for "
            f"training.processes: {training.processes}; name config/accelerate/ddp.yaml instead, or set "
            "processes to 1"
        )
    arithmetic = config.get("mixed_precision", "no")
    if arithmetic not in ARITHMETIC:
        problems.append(
            f"{file}: mixed_precision: {arithmetic!r} is not supported; write one of {', '.join(ARITHMETIC)} "
            f"({asks})"
        )
    return problems


def _fsdp_version(config: dict[str, Any]) -> str:
    """FSDP's version in a config file of accelerate, whose default is 1."""
    return str(_section(config, "fsdp_config").get("fsdp_version", 1))


def _zero_stage(config: dict[str, Any]) -> str:
    """ZeRO's stage in a config file of accelerate; one that is left to a file of DeepSpeed's is not known."""
    return str(_section(config, "deepspeed_config").get("zero_stage", "unknown"))


def _section(config: dict[str, Any], name: str) -> dict[str, Any]:
    """A section of a config file of accelerate; empty if there is none, or something else in its place."""
    found = config.get(name)
    return found if isinstance(found, dict) else {}

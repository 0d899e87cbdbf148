"""Whether a model fits this benchmark, checked before anything is spent; ``vista check`` runs it.

A family may load, sample and train, and still do it wrongly without an error: sample from one distribution
and train on another, look at another row's image, take a begin token for the image. So every model that is
not built here is tried on three made-up queries with the very code of sampling, scoring and training, at the
settings of its entry. It is no part of a stage, since it uses several: a change in the code of training makes
the check stale, but no base checkpoint.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vista import chat, segments
from vista.config import Hyperparameters, Suite
from vista.engines.base import Request
from vista.engines.batching import collate, to_device
from vista.engines.checkpoints import (
    Checkpoint,
    device_name,
    load_checkpoint,
    require_gpu,
    save_checkpoint,
)
from vista.engines.hf import HfEngine
from vista.errors import VistaError, is_out_of_memory
from vista.grid import asks_system, reads_attention
from vista.manifest import Recorder, read_manifest
from vista.objectives.sft import SftSettings
from vista.paths import Paths
from vista.probe import (
    QUESTION,
    SIZES,
    SYSTEM,
    Probe,
    borrowed,
    misplaced,
    query,
    takes_system,
    train_without_chance,
)
from vista.records import Row, write_json
from vista.rollouts.score import Layers, attention_scores, read_for
from vista.scores import choice_of_layers
from vista.shown import printable

NUMBERS = ("alone and together", "sampled and read", "trained and sampled")  # checks that compare these
UNREADABLE = (VistaError, ValueError, RuntimeError, NotImplementedError)  # by layers that cannot be read
# A row of a batch may not differ from the row alone by as much as this share of what another image changes.
OF_ANOTHER_IMAGE = 0.5
OTHER = "take another model, or a version of transformers in which its class is corrected"
# By check, in their order: what it asks, and what to do about a model that fails it.
CHECKS = {
    "segments": (
        "can system, image and instruction be told apart in a prompt",
        f"correct the chat template or the processor's tokens, or {OTHER}",
    ),
    "one pass": (
        "does one pass read a prompt with its response, and see the image",
        f"its class takes no response after a prompt, or leaves the image out: {OTHER}",
    ),
    "alone and together": (
        "has a row the same logits alone, in a batch of equal lengths, and padded",
        f"its class mixes up the rows of a batch: {OTHER}",
    ),
    "sampled and read": (
        "is a sample's log-probability that of one pass over it",
        f"its cache gives other results than one pass: {OTHER}",
    ),
    "trained and sampled": (
        "does training see the log-probabilities of the model itself",
        f"its class and TRL disagree on the logits, such as on their scale: {OTHER}",
    ),
    "attention": (
        "can attention at the layers asked for be read",
        "choose layers that can be read, or methods whose filter reads no attention",
    ),
    "saved and loaded": (
        "are weights, settings and prompts the same after saving and loading",
        f"what is trained from it could not be used: {OTHER}",
    ),
}


@dataclass(frozen=True)
class Verdict:
    """What one check found."""

    check: str
    verdict: str  # ok, fail, not needed, or: not tried
    measured: str
    tolerance: str = ""

    def __str__(self) -> str:
        """Without the verdict."""
        return f"{self.check}: {self.measured} {self.tolerance}".rstrip()


def check_model(suite: Suite, paths: Paths, model: str) -> None:
    """Check a base checkpoint that was not built here; write the verdicts and their manifest.

    Raises:
        VistaError: a check fails; names the model, the check and the remedy. The verdicts are then in the
            log's folder.
    """
    if model not in suite.models:
        raise VistaError(f"suite {suite.name!r} has no model {model!r}; it has {', '.join(suite.models)}")
    require_gpu(suite, model, "rollouts")
    torch.set_num_threads(suite.threads)
    base, output, failed = paths.base(model), paths.check(model), paths.failed_check(model)
    layers: Layers | None = suite.scoring.layers if reads_attention(suite) else None
    scoring = {"layers": layers, "linear_layers": suite.scoring.linear_layers}
    system = asks_system(suite, model)
    recorder = Recorder("models", {"model": model, **scoring}, [base], device_name())
    trusted = bool(getattr(suite.models[model], "trust_remote_code", False))
    loading: dict[str, Any] = {"trust_remote_code": trusted, "padding": suite.padding}
    checkpoint = load_checkpoint(base, **loading)
    scratch = output.with_name(f".{output.name}.part")
    how = scratch, layers, suite.scoring.linear_layers, system, trusted
    verdicts = examine(checkpoint, *how)
    if checkpoint.model.dtype != torch.float32:
        options: dict[str, Any] = {"dtype": torch.float32, **loading}
        if checkpoint.model.config._attn_implementation != "eager":
            options["attention"] = "sdpa"  # flash attention has no float32
        verdicts = without_rounding(verdicts, lambda: examine(load_checkpoint(base, **options), *how))
    report = {
        "model": model,
        "checkpoint": read_manifest(base).checksums,
        "scoring": scoring,
        "system": system,
        "device": recorder.device,
        "dtype": str(checkpoint.model.dtype),
        "attention": checkpoint.model.config._attn_implementation,
        "verdicts": [asdict(verdict) for verdict in verdicts],
    }
    for verdict in verdicts:
        print(printable(f"{verdict.verdict:10} {verdict}"))
    if any(verdict.verdict == "fail" for verdict in verdicts):
        write_json(failed, report)
        raise refusal(model, verdicts)
    failed.unlink(missing_ok=True)
    write_json(output, report)
    recorder.settings["verdicts"] = {each.check: f"{each.verdict}: {each.measured}" for each in verdicts}
    recorder.write(output, {"checks": len(verdicts)})


def without_rounding(
    verdicts: Sequence[Verdict], in_float32: Callable[[], Sequence[Verdict]]
) -> list[Verdict]:
    """Verdicts in low precision; where numbers differ too much, those in float32 decide, if memory allows.

    A router's choice of experts, for example, may turn with the last bit of an input.
    """
    doubtful = [each.check for each in verdicts if each.verdict == "fail" and each.check in NUMBERS]
    decided = {each.check: each for each in verdicts}
    if doubtful:
        with suppress(torch.OutOfMemoryError, MemoryError, VistaError):
            exact = {each.check: each for each in in_float32()}
            for name in doubtful:
                measured = f"{decided[name].measured}; in float32 {exact[name].measured}"
                decided[name] = replace(exact[name], measured=measured)
    return list(decided.values())


def refusal(model: str, verdicts: Sequence[Verdict]) -> VistaError:
    """The error for a model: the first check that fails, with its remedy, and the names of the others."""
    first, *others = [verdict for verdict in verdicts if verdict.verdict == "fail"]
    asked, remedy = CHECKS[first.check]
    also = f" (other checks that fail: {', '.join(other.check for other in others)})" if others else ""
    return VistaError(f"model {model}: check {str(first).replace(':', f' ({asked}?):', 1)}{also}; {remedy}")


def examine(
    checkpoint: Checkpoint,
    scratch: Path,
    layers: Layers | None,
    linear: Any = "refuse",
    system: bool = True,
    trusted: bool = False,
) -> list[Verdict]:
    """The verdict of every check, in the order of ``CHECKS``; none stops the others.

    Args:
        checkpoint: The model, which is as before afterwards.
        scratch: A folder to save it in, removed afterwards.
        layers: Whose attention is read; ``None`` if no method reads any.
        linear: What is done about layers without attention.
        system: Whether queries have a system text; if not, its template need not take one.
        trusted: Whether the checkpoint's code may run.
    """
    probe = cache(partial(Probe, checkpoint))
    checks: dict[str, Callable[[], Verdict]] = {
        "segments": lambda: check_segments(checkpoint, system),
        "one pass": lambda: check_one_pass(probe()),
        "alone and together": lambda: check_together(probe()),
        "sampled and read": lambda: check_sampling(probe()),
        "trained and sampled": lambda: check_training(probe()),
        "attention": lambda: check_attention(probe(), layers, linear),
        "saved and loaded": lambda: check_saving(checkpoint, scratch, trusted),
    }
    return [_guarded(name, check) for name, check in checks.items()]


def _guarded(name: str, check: Callable[[], Verdict]) -> Verdict:
    """A check's verdict; a failure if it raises, unless memory runs out."""
    try:
        with torch.no_grad():
            return check()
    except Exception as error:
        if is_out_of_memory(error):
            raise
        said = " ".join(str(error).split())[:400]
        return Verdict(
            name, "fail", said if isinstance(error, VistaError) else f"{type(error).__name__}: {said}"
        )


def judge(probe: Probe, name: str, worst: float, what: str) -> Verdict:
    """A verdict on a difference, relative to the size of the logits."""
    fits = worst <= probe.tolerance
    limit = f"(at most {probe.tolerance:g})"
    return Verdict(name, "ok" if fits else "fail", f"{what} {worst:.1e} of the logits' size", limit)


# --- the checks ---


def check_segments(checkpoint: Checkpoint, asked: bool) -> Verdict:
    """Every run of vision tokens has placeholders, other images change only these, and text is told apart."""
    processor = checkpoint.processor
    systems = [SYSTEM, None] if asked or takes_system(processor) else [None]
    lengths = []
    for system in systems:
        rows = [query(number, size, system) for number, size in enumerate(SIZES)]
        prompts = [chat.encode_query(processor, row) for row in rows]
        found = [
            segments.segments(processor, chat.messages(row), prompt)
            for row, prompt in zip(rows, prompts, strict=True)
        ]
        for prompt, kinds in zip(prompts, found, strict=True):
            _check_runs(checkpoint, prompt.input_ids, kinds)
            _check_texts(processor, prompt.input_ids, kinds, system)
            lengths.append(kinds.count(segments.VISION))
        text = [_outside(prompt.input_ids, kinds) for prompt, kinds in zip(prompts, found, strict=True)]
        if text[0] != text[1] or text[0] != text[2]:
            raise VistaError("another image changes tokens that are not the image's")
    return Verdict("segments", "ok", f"{min(lengths)} to {max(lengths)} vision tokens")


def _outside(ids: Sequence[int], kinds: Sequence[int]) -> list[tuple[int, int]]:
    return [(token, kind) for token, kind in zip(ids, kinds, strict=True) if kind != segments.VISION]


def _check_runs(checkpoint: Checkpoint, ids: Sequence[int], kinds: Sequence[int]) -> None:
    """Refuse a run of vision tokens without a token that the model replaces by the image."""
    places, run = placeholders(checkpoint), list[int]()
    if segments.VISION not in kinds:
        raise VistaError("no token of the prompt is the image's")
    for token, kind in [*zip(ids, kinds, strict=True), (-1, segments.INSTRUCTION)]:
        if kind == segments.VISION:
            run.append(token)
        elif run:
            if places and not places & set(run):
                said = checkpoint.processor.tokenizer.convert_ids_to_tokens(run[:3])
                raise VistaError(f"{said} counts as the image, but has no placeholder of it")
            run = []


def placeholders(checkpoint: Checkpoint) -> set[int]:
    """Ids of the tokens that a model replaces by the image, as its config or its processor names them."""
    config, processor = checkpoint.model.config, checkpoint.processor.inner
    names = ("image_token_id", "image_token_index", "image_patch_id")
    found = [getattr(owner, name, None) for owner in (config, processor) for name in names]
    return {token for token in found if isinstance(token, int)}


def _check_texts(processor: Any, ids: Sequence[int], kinds: Sequence[int], system: str | None) -> None:
    """Refuse segments that do not hold their own text, or that hold another's."""
    texts = {segments.INSTRUCTION: QUESTION, segments.SYSTEM: system}
    for kind, name in ((segments.SYSTEM, "system"), (segments.INSTRUCTION, "instruction")):
        own = [token for token, each in zip(ids, kinds, strict=True) if each == kind]
        written = "".join(processor.tokenizer.decode(own).split())
        for other, text in texts.items():
            if text is not None and ("".join(text.split()) in written) != (other == kind):
                raise VistaError(f"the {name} segment reads {written[:60]!r}")


def check_one_pass(probe: Probe) -> Verdict:
    """A prompt can be read with its response, and another image gives other logits."""
    change = float((probe.alone[1] - probe.other).norm() / probe.alone[1].norm())
    floor = 10 * torch.finfo(torch.float32).eps
    verdict = "ok" if change > floor else "fail"
    return Verdict(
        "one pass", verdict, f"another image changes logits by {change:.1e} of their size", "(more than 0)"
    )


def check_together(probe: Probe) -> Verdict:
    """A row alone, in the engine's batches of equal lengths and padded, and in the trainer's padded one."""
    checkpoint, prompts, responses = probe.checkpoint, probe.prompts, probe.responses
    pairs = probe.in_batches()
    for order in ([0, 1, 2], [2, 1, 0]):
        padded = [prompts[row] for row in order], [responses[row] for row in order]
        pairs += [*zip(order, probe.read(collate(*padded, checkpoint.pad_id)), strict=True)]
    worst = max(float((found - probe.alone[row]).abs().mean()) / probe.scale(row) for row, found in pairs)
    verdict = judge(probe, "alone and together", worst, "logits differ by")
    limit = OF_ANOTHER_IMAGE * float((probe.alone[1] - probe.other).norm())
    for row, found in pairs:
        if row == 1 and limit > 0 and float((found - probe.alone[1]).norm()) > limit:
            return Verdict(verdict.check, "fail", "a row of a batch has the logits of another row's image")
    return verdict


def check_sampling(probe: Probe) -> Verdict:
    """A sample's log-probability is that of one pass over it, with and without a given prefix."""
    checkpoint, worst = probe.checkpoint, 0.0
    engine = HfEngine(checkpoint, 8)
    requests = [Request(prompt, [7 + row]) for row, prompt in enumerate(probe.prompts)]
    requests += [Request(probe.prompts[0], [3], tuple(probe.responses[0][:3]))]
    samples = engine.sample(requests, 1.0, 8)
    for request, (sample,) in zip(requests, samples, strict=True):
        given, drawn = list(request.prefix), sample.token_ids
        logits = probe.logits(request.prompt, [*given, *drawn])
        read = float(probe.log_probs(logits, [*given, *drawn], masked=True)[len(given) :].sum())
        ends = checkpoint.end_ids if sample.finished else []
        ways = [read + float(probe.log_probs(logits[-1:], [end], masked=True)) for end in ends] or [read]
        off = min(abs(way - sample.logprob) for way in ways)
        worst = max(worst, off / (len(drawn) + len(ends[:1])) / probe.scale(0))
    return judge(probe, "sampled and read", worst, "log-probabilities of tokens differ by")


def _example(row: Row, response: list[int]) -> Row:
    """A row of a training set (``records.EXAMPLE``)."""
    turns = {"prompt": chat.messages(row), "completion": chat.reply("unused"), "completion_ids": response}
    return {"query_id": row["query_id"], "images": row["images"], **turns}


def check_training(probe: Probe) -> Verdict:
    """The trainer's log-probabilities of the responses are the model's own."""
    if importlib.util.find_spec("trl") is None:
        return Verdict("trained and sampled", "not tried", "TRL is not installed, so nothing is trained here")
    from vista.training.fit import make_trainer

    checkpoint, model = probe.checkpoint, probe.checkpoint.model
    examples = [_example(*pair) for pair in zip(probe.rows, probe.responses, strict=True)]
    hyper = Hyperparameters(epochs=1, learning_rate=1e-6, batch_size=1)
    alone, worst = probe.alone, 0.0
    with borrowed(model):
        with tempfile.TemporaryDirectory(prefix="vista-check-") as folder:
            trainer = make_trainer(checkpoint, examples, hyper, SftSettings(kind="sft"), Path(folder), 0)
        train_without_chance(model)
        for number, response in enumerate(probe.responses):
            batch = to_device(trainer.data_collator([{"index": number}]), checkpoint.device)
            output = trainer._forward(model, batch)
            seen = output.log_probs[0][output.label_mask[0]].double()
            read = probe.log_probs(alone[number], [*response, checkpoint.end_ids[0]])
            worst = max(worst, float((seen - read).abs().mean()) / probe.scale(number))
    return judge(probe, "trained and sampled", worst, "log-probabilities of tokens differ by")


def check_attention(probe: Probe, layers: Layers | None, linear: Any) -> Verdict:
    """The attention of responses at the layers asked for can be read, and has all segments in it."""
    if layers is None:
        return Verdict("attention", "not needed", "no method of the suite filters by attention")
    checkpoint = probe.checkpoint
    read = read_for(checkpoint, layers, linear)
    chosen = sorted(set(read.values()))
    try:
        found = np.array(_attention(probe, chosen))
    except UNREADABLE as error:
        if is_out_of_memory(error):
            raise
        raise VistaError(f"{error}; {_what_can_be_read(probe)}") from error
    sums = found.sum(2)
    if not found[..., segments.VISION].all():
        raise VistaError(f"at layers {chosen} responses see nothing of the image, as with a short window")
    if not (np.isfinite(found).all() and (sums < 1.01).all()):
        raise VistaError(f"attention at layers {chosen} sums to {sums.min():.3g} to {sums.max():.3g}")
    if found_elsewhere := misplaced(checkpoint.model, chosen):
        raise VistaError(f"its class calls other layers by the numbers of {chosen}: {found_elsewhere}")
    instead = {layer: own for layer, own in read.items() if own != layer}
    said = "".join(f", layer {own} for {layer}" for layer, own in instead.items())
    return Verdict("attention", "ok", f"layers {chosen} can be read{said}")


def _attention(probe: Probe, layers: Sequence[int]) -> list[list[list[float]]]:
    """The attention of the responses on each segment at some layers."""
    checkpoint, pairs = probe.checkpoint, zip(probe.rows, probe.prompts, strict=True)
    kinds = [segments.segments(checkpoint.processor, chat.messages(row), prompt) for row, prompt in pairs]
    return attention_scores(checkpoint, probe.prompts, kinds, probe.responses, layers, 2)


def _what_can_be_read(probe: Probe) -> str:
    """Which layers can be read, tried one by one, and the keys to set."""
    count, readable = probe.checkpoint.model.config.get_text_config().num_hidden_layers, []
    for layer in range(count):
        with suppress(*UNREADABLE):
            _attention(probe, [layer])
            readable.append(layer)
    return choice_of_layers(readable, count)


def check_saving(checkpoint: Checkpoint, scratch: Path, trusted: bool) -> Verdict:
    """Saved and loaded again, a model has the same weights, settings and prompts."""
    try:
        save_checkpoint(checkpoint.model, checkpoint.processor, scratch)
        again = load_checkpoint(
            scratch, device="cpu", dtype=checkpoint.model.dtype, trust_remote_code=trusted
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    before = dict(checkpoint.model.state_dict()) | dict(checkpoint.model.named_buffers())
    after = dict(again.model.state_dict()) | dict(again.model.named_buffers())
    changed = [name for name in before if name not in after or not _same(before[name], after[name])]
    if changed or before.keys() != after.keys():
        names = changed or sorted(after.keys() - before.keys())
        raise VistaError(f"{len(names)} tensors are not the same, {names[0]} among them")
    for what, of in (
        ("generation config", lambda made: _plain(made.model.generation_config)),
        ("end tokens", lambda made: made.end_ids),
        ("forbidden tokens", lambda made: made.forbidden_ids),
        ("prompts", lambda made: chat.encode_query(made.processor, query(0, SIZES[0], None)).input_ids),
    ):
        if of(checkpoint) != of(again):
            raise VistaError(f"the {what} are not the same: {of(checkpoint)} and {of(again)}"[:300])
    return Verdict("saved and loaded", "ok", f"{len(before)} tensors, settings and prompts are the same")


def _same(one: Any, other: Any) -> bool:
    if not isinstance(one, torch.Tensor):
        return bool(one == other)
    return one.dtype == other.dtype and torch.equal(one.cpu(), other)


def _plain(generation: Any) -> dict[str, Any]:
    """Generation settings, without notes on where they come from."""
    settings: dict[str, Any] = json.loads(generation.to_json_string(ignore_metadata=True))
    return settings

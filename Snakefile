# VISTA-bench: the whole benchmark as one DAG.
#
#   snakemake --cores all results/tables/main.csv                     the testbed (default)
#   snakemake --cores all results/smoke/tables/main.csv --configfile config/smoke.yaml
#
# Targets come first: --configfile takes every word up to the next option for a config file.
#
# One rules file per stage; vista/dag/ decides what each output is made from.
import sys
from pathlib import Path

from snakemake.utils import min_version, update_config

from vista.config import as_in_a_file, load_suite, load_yaml
from vista.dag import Dag
from vista.dag.jobs import last_lines, make_old
from vista.dag.told import Progress
from vista.errors import VistaError
from vista.planned import HANDED, forget_inherited, inherited, read
from vista.planning.release import Releases
from vista.suites import eaten_target
from vista.warm import start

min_version("9.0")


report: "workflow/report/workflow.rst"


if not workflow.overwrite_configfiles:

    configfile: Path(workflow.basedir) / "config/testbed.yaml"


try:
    if workflow.is_main_process:
        forget_inherited()
        if problem := eaten_target(workflow.configfiles):
            raise VistaError(problem)
        # Snakemake's own reader takes YAML 1.1, where 017 is 15 and `no` a boolean, and the last of two values
        # of a key. So the files are read again, and what `--config` says is put over them.
        said = {}
        for file in workflow.configfiles:
            update_config(said, load_yaml(Path(file)))
        update_config(said, as_in_a_file(workflow.config_settings.config))
        SUITE = load_suite(
            workflow.configfiles[-1], value=said, checkout=Path(workflow.basedir)
        )
    else:
        # The config may have been edited since.
        SUITE, _ = read(inherited())
    PLAN = Dag(SUITE)
    # What a later block reads is still wanted.
    RELEASES = None
    if workflow.is_main_process and SUITE.keep_checkpoints != "all":
        RELEASES = Releases(
            load_suite(
                workflow.configfiles[-1],
                value={**said, "up_to": None},
                checkout=Path(workflow.basedir),
            )
        )
    if workflow.is_main_process:
        PLAN.refuse_missing()
    PLAN.write_suite()
except VistaError as error:
    raise WorkflowError(str(error))

R = str(SUITE.results)
# The priority of what reads weights: where checkpoints are released, before further trainings.
READ_FIRST = int(SUITE.keep_checkpoints != "all")


onstart:
    if workflow.is_main_process:
        try:
            if workflow.local_exec:
                limit = workflow.global_resources["gpu"]
                PLAN.hand_out(
                    DEVICES, getattr(limit, "value", limit), jobs_to_run(workflow)
                )
            said = PLAN.begin(on_cluster=not workflow.local_exec)
            if said:
                print(said, file=sys.stderr)
            if workflow.local_exec and not DEVICES and not SUITE.training.report_to:
                rules = [job.rule.name for job in workflow.dag.needrun_jobs()]
                WARM.append(start(PLAN.paths.warm_log, SUITE.threads, rules))
        except VistaError as error:
            raise WorkflowError(str(error))
        if RELEASES is not None:
            release(RELEASES, workflow.dag)
        # To jobs on other machines.
        workflow.register_envvars(
            *HANDED, *(["PYTHONPATH"] if SUITE.snapshot else [])
        )
        if BOARD is not None:
            try:
                BOARD.start()
            except VistaError as error:
                raise WorkflowError(str(error))
    # To limit how many jobs start in a time span (100 a second by default), Snakemake 9 wakes its
    # scheduler once per span for every job that has finished so far. After a few hundred jobs this takes
    # half a core, and Snakemake waits for one more span when it has ended or was interrupted. No more jobs
    # start than there are free cores or than `jobs` allows, so this limit is not needed.
    limit = workflow.scheduling_settings.max_jobs_per_timespan
    if limit and (limit.max_jobs, limit.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


# On one machine, as many jobs may use a GPU at a time as it has GPUs (one job, if it has none), unless
# `--resources gpu=…` says fewer. This is not set in the default profile, since that would win over a cluster's.
# (Where jobs are sent elsewhere, Snakemake counts nodes.)
DEVICES = []
if workflow.resource_settings.nodes is None:
    if workflow.is_main_process:
        DEVICES = PLAN.devices()
    if "gpu" not in workflow.global_resources:
        workflow.register_resource("gpu", max(1, len(DEVICES)))


WARM = []  # open as long as this process runs


onsuccess:
    if workflow.is_main_process:
        if BOARD is not None:
            BOARD.stop()
        if not workflow.output_settings.quiet:
            said = PROGRESS.summary(asked_for(workflow.dag), config_words(workflow))
            print(said, file=sys.stderr)


onerror:
    logs = logs_of_failed(workflow.scheduler)
    if BOARD is not None:
        BOARD.stop()
        # That a job was killed may have been said by the shell around it alone.
        if any(
            not Path(log).is_file() or not Path(log).stat().st_size for log in logs
        ):
            logs.append(PLAN.paths.terminal_log)
    quoted = last_lines(logs)
    if workflow.is_main_process and quoted:
        print(quoted, file=sys.stderr)
    if workflow.is_main_process:
        expire_kept(workflow)
        if SUITE.pilot:
            from vista.planning.pilot import tell  # pandas takes a second

            print(tell(SUITE, PLAN.paths), file=sys.stderr)


wildcard_constraints:
    task="[^/]+",
    split="seed|train|test",
    model="[^/]+",
    run=r"[^/]+/[^/]+/[^/]+/seed\d+/round\d+",
    name="[^/]+",
    figure="[a-z_]+",
    shard=r"\d+",


# Light rules, which would only crowd the queue of a cluster.
localrules:
    all,
    tables,
    figures,
    suite,
    collect,
    cost,
    figure,
    gallery,


rule all:
    default_target: True
    input:
        expand(
            f"{R}/tables/{{table}}.csv",
            table=[*SUITE.tables, *(["pilot"] if SUITE.pilot else [])],
        ),


rule tables:
    input:
        PLAN.every_table(),
        f"{R}/suite.yaml",


rule figures:
    input:
        PLAN.figures(),
        PLAN.gallery(),


include: "workflow/rules/common.smk"


ask_manifests(PLAN)
disregard_checks(PLAN)
measure_forks()
PROGRESS, BOARD = Progress(), None
if workflow.is_main_process:
    BOARD = say_less(workflow.output_settings, PROGRESS)
    train_released(Releases(SUITE))
if RELEASES is not None:
    release_when_read(RELEASES)
if workflow.is_main_process:
    refuse_strange_targets(
        SUITE, Path(workflow.configfiles[-1]), Path(workflow.basedir)
    )


include: "workflow/rules/tasks.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/rollouts.smk"
include: "workflow/rules/curation.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/analysis.smk"


# What the rules depend on is written here: refused later, in an input function, Snakemake would take an
# output that is there for up to date.
PLAN.keep_code()
if PLAN.refused:
    raise WorkflowError(PLAN.refused)
PLAN.is_read = True
try:
    PLAN.handed  # made here, where an error is one message
except VistaError as error:
    raise WorkflowError(str(error))

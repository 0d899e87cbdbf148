# What several rules say about their outputs, what a run says of its jobs, and what is done about failed ones:
# their logs are quoted, and what they leave counts as older than their inputs.
import os
import re
import shlex
from contextlib import suppress
from functools import cache

import psutil
import snakemake.common
import snakemake.jobs
import snakemake.rules
from snakemake.benchmark import BenchmarkTimer
from snakemake.dag import DAG
from snakemake.exceptions import (
    InputFunctionException,
    MissingInputException,
    MissingRuleException,
)
from snakemake.io import _IOFile, is_flagged
from snakemake.jobs import Job
from snakemake.logging import DefaultFilter, DefaultFormatter, get_event, logger
from snakemake.persistence import ParamsChange, PersistenceBase
from snakemake_interface_logger_plugins.common import LogEvent

from vista.dag.board import Board, is_wanted
from vista.dag.told import SHOWN, short_job
from vista.suites import strange_target, unmade_target
from vista.verify import outputs_of
from vista.warm import forks

STREAM = "DefaultStreamHandler"  # Snakemake's name of what writes its messages
# In a target: an output of a run, which is neither a log nor a benchmark.
RUN = re.compile(
    r"(?<!/logs)(?<!/benchmarks)/[a-z]+/[^/]+/[^/]+/[^/]+/seed\d+/round\d+\b"
)


class Following:
    """The jobs that run because a job runs: not those that wait by way of `ancient` inputs alone."""

    def __init__(self, depending):
        self.depending = depending

    def __getitem__(self, job):
        return {
            after: files
            for after, files in self.depending[job].items()
            if not all(file.is_ancient for file in files)
        }


def see_past_ancient(search=DAG.bfs, update=DAG.update_needrun, exists=_IOFile.exists):
    """Have Snakemake ask of jobs that wait for a check whether they are stale, when the check is, too.

    It asks no job downstream of one that has to run, taking for granted that it will run. By way of
    `ancient` inputs alone it does not: it would stay stale until the next start, without a word. And it runs
    every job whose `ancient` input is not there yet: what was made before a check came to be, it would make
    again.
    """
    planning = []

    def bfs(dag, direction, *jobs, **options):
        if direction is dag.depending:
            direction = Following(direction)
        return search(dag, direction, *jobs, **options)

    async def updated(dag, create_inventory=False):
        if create_inventory and dag.workflow.is_main_process:  # of what is there
            await dag.workflow.iocache.mtime_inventory(dag.jobs)
        planning.append(dag)
        try:
            await update(dag)
        finally:
            planning.pop()

    async def is_there(file):
        return bool(planning and file.is_ancient) or await exists(file)

    DAG.bfs, DAG.update_needrun, _IOFile.exists = bfs, updated, is_there


see_past_ancient()


def read_signatures_once(parameters=snakemake.common.get_function_params):
    """Have Snakemake look once, not once for each job, at what a rule's functions take.

    A job has some twenty of them, and looking takes longer than most of them do.
    """
    known = cache(parameters)
    for asking in (snakemake.common, snakemake.jobs, snakemake.rules):
        asking.get_function_params = known


read_signatures_once()


class WrongTarget(WorkflowError):
    """A target that no rule makes. Where it is refused helps nobody, so Snakemake gets no frames to show."""

    __traceback__ = None


def refuse_strange_targets(suite, configfile, root, init=DAG.init):
    """Have Snakemake say which config makes a target of another suite, or which file may be meant instead.

    It does not know the targets before all rules are read, and would say that no rule makes one, or show
    where a rule's function did not know what to make of its name.
    """

    async def checked(dag, *arguments, **options):
        targets = [str(file) for file in dag.targetfiles]
        if problem := strange_target(targets, suite, configfile, root):
            raise WrongTarget(problem)
        try:
            done = await init(dag, *arguments, **options)
        except (
            MissingRuleException,
            MissingInputException,
            InputFunctionException,
        ) as error:
            named = None
            if isinstance(error, MissingRuleException):
                named = [rule.name for rule in dag.rules if not rule.has_wildcards()]
            problem = unmade_target(targets, suite, outputs_of(suite), named)
            if problem is None:
                raise
            raise WrongTarget(problem) from error
        # Rules would make those of any seed and round, for no table.
        of_runs = [target for target in targets if RUN.search(target)]
        if of_runs and (
            problem := unmade_target(of_runs, suite, outputs_of(suite), None)
        ):
            raise WrongTarget(problem)
        return done

    DAG.init = checked


def ask_manifests(plan, changed=PersistenceBase.params_changed):
    """Have Snakemake ask the outputs' manifests what they were made with, besides its own memory.

    Results that were copied, or whose `.snakemake` is gone, are as stale as they were.
    """

    def params_changed(persistence, job, file=None):
        found = changed(persistence, job, file)
        if found or file is not None:
            return found
        why = plan.why_stale(
            [str(each) for each in job.output],
            [str(each) for each in job.input],
            job.params.get("settings"),
            job.input.get("code"),
        )
        return ParamsChange(only_old={why}, files=set(job.output)) if why else found

    PersistenceBase.params_changed = params_changed
    PersistenceBase.has_metadata = lambda persistence, job: True  # else it does not ask


def disregard_checks(plan, changed=PersistenceBase._input_changed):
    """Have Snakemake make nothing again because it waits for a check that was not there before, or no longer.

    Every input is `ancient` that is a check, but Snakemake compares the names of those, too.
    """

    def input_changed(persistence, job, file=None):
        if not changed(persistence, job, file):
            return False
        sets = [
            {each for each in listed if not plan.is_check(each)}
            for listed in (persistence.input(file), persistence._input(job))
        ]
        return sets[0] != sets[1]

    PersistenceBase._input_changed = input_changed


class Measured(psutil.Process):
    """The shell of a job, as Snakemake measures it: with the forks that its processes wait for."""

    def children(self, recursive=False):
        found = super().children(recursive)
        for fork in forks([self.pid, *(child.pid for child in found)]):
            with suppress(psutil.NoSuchProcess):  # it has ended
                process = psutil.Process(fork)
                found += [process, *process.children(recursive)]
        return found


def measure_forks(begin=BenchmarkTimer.__init__):
    """Have Snakemake's benchmarks count what jobs do in forks, which are no children of theirs."""

    def begin_with_forks(timer, *arguments, **options):
        begin(timer, *arguments, **options)
        timer.main = Measured(timer.pid)

    BenchmarkTimer.__init__ = begin_with_forks


def weights_read(releases, jobs):
    """The inputs of those jobs that read the weights of the checkpoints among them."""
    return (
        str(file)
        for job in jobs
        if releases.reads_weights(job.rule.name)
        for file in job.input
    )


def to_run(dag):
    """The jobs that run or are about to."""
    return (job for job in dag.needrun_jobs() if not dag.finished(job))


def release_when_read(releases, finish=DAG.finish):
    """Release a checkpoint when the last job that reads its weights has finished.

    Not by way of `temp()`: what Snakemake knows of a checkpoint is its manifest, which tables read, and it knows
    only the jobs of this start, not all of the suite's.
    """

    async def finished(dag, job, *arguments, **options):
        await finish(dag, job, *arguments, **options)
        read = weights_read(releases, job if job.is_group() else [job])
        release(releases, dag, among=read)

    DAG.finish = finished


def release(releases, dag, among=None):
    """Release what no job of this start reads, and the suite no longer wants."""
    for line in releases.sweep(weights_read(releases, to_run(dag)), among):
        print(line, file=sys.stderr)


def train_released(releases, update=DAG.update_needrun):
    """Have Snakemake train a checkpoint again that was released, when a job that runs reads its weights.

    Its manifest is there, so Snakemake alone would not. All that was made from it is made again, too: it may
    be another one.
    """
    told = set()

    async def updated(dag, *arguments, **options):
        await update(dag, *arguments, **options)
        while again := set(releases.again(weights_read(releases, to_run(dag)))) - told:
            told.update(again)
            dag.forcefiles = {*dag.forcefiles, *again}
            await update(dag, *arguments, **options)
            if workflow.is_main_process:
                print(
                    f"{len(again)} checkpoints were released (keep_checkpoints) and are needed again. They are"
                    f" trained again, and all that was made from them is made again: {', '.join(sorted(again))}",
                    file=sys.stderr,
                )

    DAG.update_needrun = updated


def handed(wildcards, threads):
    """The suite and the code that a job is planned with.

    Snakemake takes a param that is made from `threads` for none that the output depends on.
    """
    return PLAN.handed


# Where the report shows a table. It lists categories by the alphabet.
CATEGORIES = {
    "1. Results": (
        "findings",
        "main",
        "benchmarks",
        "tasks",
        "ood",
        "blind",
        "rounds",
        "reported",
        "runs",
    ),
    "2. Comparisons": ("ablation", "across_models", "resolution", "sweep"),
    "3. Rollouts and training": (
        "difficulty",
        "faithfulness",
        "audit",
        "prefix",
        "distributions",
        "training",
    ),
    "6. Cost and versions": ("cost", "pilot"),
}


def shown(files):
    """The files of tables: pages and CSVs are shown in the report, with captions, and the main table's manifest."""
    return [in_report(file) for file in files]


def in_report(file):
    """A file as the report shows it, if it does.

    It has one label: with two of two values each, the report hides half of a category's files.
    """
    name, suffix = Path(file).stem, Path(file).suffix
    table = "sweep" if name.startswith("sweep_") else name
    if Path(file).name == "main.csv.manifest.json":
        table, name, category = (
            "manifest",
            "manifest of the main table as JSON",
            "8. Provenance",
        )
    elif suffix == ".csv":
        category = "7. Tables as CSV"
    elif suffix == ".html":
        category = next(
            category for category, tables in CATEGORIES.items() if table in tables
        )
    else:
        return file
    return report(
        file,
        caption=f"../report/{table}.rst",
        category=category,
        labels={"what": name},
    )


def jobs_to_run(workflow):
    """Of the jobs that will run for a model or a run, the rule and which one that is."""
    for job in workflow.dag.needrun_jobs():
        for name in ("run", "model"):
            if name in job.wildcards_dict:
                yield job.rule.name, job.wildcards_dict[name]
                break


def failed_jobs(scheduler):
    """The jobs that failed after all retries; those of a group one by one."""
    return [
        job
        for one in scheduler.failed
        for job in (one.jobs if one.is_group() else [one])
    ]


def logs_of_failed(scheduler):
    """Log files of the jobs that failed."""
    return [log for job in failed_jobs(scheduler) for log in job.log]


def expire_kept(workflow):
    """Have the next run make again what failed jobs left as it was before (`update`).

    Snakemake puts it back as if it had been made now, with today's inputs and settings.
    """
    kept = [
        file
        for job in failed_jobs(workflow.scheduler)
        for file in job.output
        if is_flagged(file, "update")
    ]
    for file in kept:
        workflow.persistence.cleanup_metadata(file)
    make_old(kept)


def say_less(settings, progress):
    """Have Snakemake say where a run is in one line, and what is about a job in short ones.

    A dry run names the first jobs of each rule, unless it is asked for more (`--printshellcmds`, `--quiet host`,
    `--verbose`). Loggers of other make (`--logger`) are told everything. Returns the board of a run in a
    terminal that is not asked for more, either.
    """
    says_more = bool(settings.quiet or settings.printshellcmds or settings.verbose)
    is_brief = settings.dryrun and not says_more
    describe, explain = (
        DefaultFormatter._format_job_info,
        DefaultFormatter._format_job_error,
    )
    describe_job, passes = DefaultFormatter.format_job_info, DefaultFilter.filter
    tell = Job.log_info

    def note(record):
        event = get_event(record)
        if event == LogEvent.RUN_INFO:
            progress.planned(record.stats)
        elif event == LogEvent.JOB_INFO:
            wildcards = record.wildcards or {}
            progress.described(record.jobid, record.rule_name, wildcards)
        elif event == LogEvent.JOB_STARTED:
            progress.started(record.jobs)
        elif event == LogEvent.GROUP_INFO:
            progress.grouped(
                [job.uuid() for job in record.jobs], [job.jobid for job in record.jobs]
            )
        elif event == LogEvent.JOB_FINISHED:
            progress.finished(record.job_id)
        elif event == LogEvent.JOB_ERROR:
            progress.failed(record.jobid)
        return True

    def in_brief(formatter, said):
        if is_brief:
            return progress.brief(said["rule_name"], said["wildcards"] or {})
        return describe_job(formatter, said)

    def is_told(filter, record):
        if is_brief and get_event(record) == LogEvent.JOB_INFO:
            return progress.named[record.rule_name] < SHOWN
        return passes(filter, record)

    def tell_first(job, *arguments, **options):
        if progress.named[job.rule.name] < SHOWN:
            tell(job, *arguments, **options)

    if is_brief and not settings.log_handler_settings:
        Job.log_info = tell_first
    DefaultFormatter._format_job_info = lambda formatter, said: describe(
        formatter, short_job(said)
    )
    DefaultFormatter._format_job_error = lambda formatter, said: explain(
        formatter, short_job(said)
    )
    DefaultFormatter.format_job_info = in_brief
    DefaultFormatter.format_progress = lambda formatter, said: progress.line(
        said["done"], said["total"]
    )
    DefaultFilter.filter = is_told
    logger.addFilter(note)
    own = [handler for handler in logger.handlers if handler.name == STREAM]
    if settings.dryrun or settings.log_handler_settings or len(own) != 1:
        return None
    local = workflow.resource_settings.nodes is None
    board = Board(progress, PLAN.paths.terminal_log, own[0])
    return board if is_wanted(local, says_more) else None


def asked_for(dag):
    """The files that a run was asked for and that are there; of a rule without output, what it collects."""
    files = []
    for job in dag.targetjobs:
        named = [file for file in job.output if file in dag.targetfiles]
        files += named or job.output or job.input
    return sorted({str(file) for file in files if Path(file).exists()})


def config_words(workflow):
    """What a command line for the same suite says of its config; nothing if it would have to say more."""
    if not workflow.local_exec or Path(workflow.basedir) != Path.cwd():
        return None
    files = [os.path.relpath(file) for file in workflow.overwrite_configfiles]
    values = [
        f"{name}={'' if value is None else value}"
        for name, value in workflow.config_settings.config.items()
    ]
    words = ["--configfile", *files] if files else []
    words += ["--config", *values] if values else []
    return f" {shlex.join(words)}" if words else ""

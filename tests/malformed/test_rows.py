"""Files between the stages that were edited, mixed up or cut short: queries, rollouts, predictions …"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.malformed.harness import (
    COLLECT,
    CURATE,
    EVALUATE,
    GAINS,
    POLICY,
    RESAMPLE,
    RESAMPLES,
    ROLLOUTS,
    RUN,
    SAMPLE,
    SAMPLES,
    SCORE,
    SCORES,
    SUITE,
    TABLES,
    TRAIN,
    Case,
    Spoil,
    World,
    case,
    refused,
)

TRAIN_QUERIES = "results/tasks/cells/train.parquet"
TEST_QUERIES = "results/tasks/cells/test.parquet"
SEED_QUERIES = "results/tasks/cells/seed.parquet"
DRAWN = f"{ROLLOUTS}/samples/{SAMPLES}/0-of-1.parquet"
AGAIN = f"{ROLLOUTS}/resamples/{RESAMPLES}/0-of-1.parquet"
SCORED = f"{ROLLOUTS}/scores/{SCORES}/0-of-1.parquet"
GAINED = f"{ROLLOUTS}/gains/{SAMPLES}+positives/0-of-1.parquet"
CURATED = f"results/curation/{RUN}/train.parquet"
PREDICTED = f"results/evaluation/{POLICY}/predictions.parquet"
VIG = f"curate {SUITE} nano/grids/vig/seed0/round1"
SEEDS = f"curate {SUITE} nano/grids/sft-seed/seed0/round0"


def changed(name: str, row: int, **values: object) -> Spoil:
    return lambda world: world.rows(name, lambda rows: rows[row].update(values))


def without(name: str, column: str) -> Spoil:
    return lambda world: world.table(name, lambda table: table.drop_columns([column]))


def with_column(name: str, column: str) -> Spoil:
    return lambda world: world.table(
        name, lambda table: table.append_column(column, pa.array([1] * len(table)))
    )


def typed(name: str, column: str, kind: pa.DataType) -> Spoil:
    def edit(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index(column)
        return table.set_column(
            place, column, pa.array([str(value) for value in table[column].to_pylist()], kind)
        )

    return lambda world: world.table(name, edit)


def twice(name: str) -> Spoil:
    return lambda world: world.rows(name, lambda rows: [*rows, rows[0]])


def shorter(name: str) -> Spoil:
    return lambda world: world.rows(name, lambda rows: rows[:-1])


def removed(name: str) -> Spoil:
    return lambda world: world.path(name).unlink()


def content(name: str, data: str | bytes) -> Spoil:
    return lambda world: world.write(name, data)


def cut(name: str, share: float = 0.5) -> Spoil:
    return lambda world: world.cut(name, share)


def folder(name: str) -> Spoil:
    return lambda world: (world.path(name).unlink(), world.path(name).mkdir())


def of_two(world: World) -> None:
    """As another number of shards would have named it."""
    world.path(DRAWN).rename(world.path(DRAWN.replace("0-of-1", "0-of-2")))


def swap_split(world: World) -> None:
    world.path(TRAIN_QUERIES).write_bytes(world.path(TEST_QUERIES).read_bytes())


QUERIES = [
    case("queries that are missing", SAMPLE, [TRAIN_QUERIES, "no such file"], removed(TRAIN_QUERIES)),
    case("queries of no bytes", SAMPLE, [TRAIN_QUERIES, "parquet"], content(TRAIN_QUERIES, b"")),
    case(
        "queries that are text",
        SAMPLE,
        [TRAIN_QUERIES, "parquet"],
        content(TRAIN_QUERIES, "query_id,answer\n"),
    ),
    case("queries that are cut short", SAMPLE, [TRAIN_QUERIES, "parquet"], cut(TRAIN_QUERIES)),
    case("a folder in the place of queries", SAMPLE, [TRAIN_QUERIES], folder(TRAIN_QUERIES)),
    case(
        "queries without a column",
        SAMPLE,
        [TRAIN_QUERIES, "missing columns ['answer_type']"],
        without(TRAIN_QUERIES, "answer_type"),
    ),
    case(
        "queries with a column too many",
        SAMPLE,
        [TRAIN_QUERIES, "unknown columns ['weight']"],
        with_column(TRAIN_QUERIES, "weight"),
    ),
    case(
        "a query without an id",
        SAMPLE,
        [TRAIN_QUERIES, "row 1", "query_id"],
        changed(TRAIN_QUERIES, 1, query_id=None),
    ),
    case(
        "a query with an empty id",
        SAMPLE,
        [TRAIN_QUERIES, "row 1", "query_id"],
        changed(TRAIN_QUERIES, 1, query_id=""),
    ),
    case(
        "a query id that stands twice",
        SAMPLE,
        [TRAIN_QUERIES, "row 2", "row 0"],
        changed(TRAIN_QUERIES, 2, query_id="cells-train-00000"),
    ),
    case(
        "a query without an instruction",
        SAMPLE,
        [TRAIN_QUERIES, "row 0", "instruction"],
        changed(TRAIN_QUERIES, 0, instruction=" "),
    ),
    case(
        "a query without an answer",
        SAMPLE,
        [TRAIN_QUERIES, "row 0", "answer"],
        changed(TRAIN_QUERIES, 0, answer=None),
    ),
    case(
        "an answer type that is not there",
        SAMPLE,
        [TRAIN_QUERIES, "row 0", "answer_type", "'cloze'"],
        changed(TRAIN_QUERIES, 0, answer_type="cloze"),
    ),
    case(
        "a query without an image",
        SAMPLE,
        [TRAIN_QUERIES, "row 2", "image"],
        changed(TRAIN_QUERIES, 2, images=[]),
    ),
    case(
        "a query with no image at all",
        SAMPLE,
        [TRAIN_QUERIES, "row 2", "image"],
        changed(TRAIN_QUERIES, 2, images=None),
    ),
    case(
        "test queries in the place of train queries", SAMPLE, [TRAIN_QUERIES, "split", "'test'"], swap_split
    ),
    case(
        "queries of another task",
        SAMPLE,
        [TRAIN_QUERIES, "row 0", "task", "'others'"],
        changed(TRAIN_QUERIES, 0, task="others"),
    ),
    case(
        "a file without queries",
        SAMPLE,
        [TRAIN_QUERIES, "no rows"],
        lambda w: w.rows(TRAIN_QUERIES, lambda rows: []),
    ),
    case(
        "fewer queries than the manifest counts",
        SAMPLE,
        [TRAIN_QUERIES, "2 rows", "3"],
        shorter(TRAIN_QUERIES),
    ),
    case(
        "a seed query without a rationale",
        SEEDS,
        ["cells-seed-00001", "rationale"],
        changed(SEED_QUERIES, 1, rationale=None),
    ),
]

ROLLOUT_FILES = [
    case("samples that are missing", CURATE, [DRAWN, "no such file"], removed(DRAWN)),
    case("samples of another number of shards", CURATE, [DRAWN, "no such file"], of_two),
    case(
        "samples without their manifest",
        CURATE,
        [f"{DRAWN}.manifest.json"],
        removed(f"{DRAWN}.manifest.json"),
    ),
    case(
        "samples without their manifest, to score",
        SCORE,
        [f"{DRAWN}.manifest.json"],
        removed(f"{DRAWN}.manifest.json"),
    ),
    case(
        "resamples without their manifest",
        CURATE,
        [f"{AGAIN}.manifest.json"],
        removed(f"{AGAIN}.manifest.json"),
    ),
    case("samples with a broken manifest", CURATE, [f"{DRAWN}.manifest.json"], cut(f"{DRAWN}.manifest.json")),
    case("fewer samples than the manifest counts", CURATE, [DRAWN, "5 rows", "6"], shorter(DRAWN)),
    case("fewer samples, to score", SCORE, [DRAWN, "5 rows", "6"], shorter(DRAWN)),
    case("fewer resamples, to score", SCORE, [AGAIN, "rows"], shorter(AGAIN)),
    case("samples that are cut short", SCORE, [DRAWN, "parquet"], cut(DRAWN, 0.9)),
    case(
        "samples without a column", CURATE, [DRAWN, "missing columns ['correct']"], without(DRAWN, "correct")
    ),
    case("samples with a column too many", CURATE, [DRAWN, "unknown columns"], with_column(DRAWN, "reward")),
    case(
        "verdicts that are text",
        CURATE,
        [DRAWN, "'correct'", "string", "bool"],
        typed(DRAWN, "correct", pa.string()),
    ),
    case("a verdict that is null", CURATE, [DRAWN, "row 3", "'correct'"], changed(DRAWN, 3, correct=None)),
    case("a sample without tokens", CURATE, [DRAWN, "row 0", "token_ids"], changed(DRAWN, 0, token_ids=None)),
    case(
        "a sample that stands twice",
        CURATE,
        [DRAWN, "row 3", "second"],
        lambda w: w.rows(
            DRAWN, lambda rows: rows[2].update(sample=rows[3]["sample"]) or [*rows[:2], rows[3], *rows[3:]]
        ),
    ),
    case(
        "a sample that stands twice, to score", SCORE, [DRAWN, "row", "second"], changed(DRAWN, 1, sample=0)
    ),
    case(
        "a sample that stands twice, to resample",
        RESAMPLE,
        [DRAWN, "row", "second"],
        changed(DRAWN, 1, sample=0),
    ),
    case(
        "a sample of an unknown query",
        CURATE,
        [DRAWN, "row 4", "'nobody'"],
        changed(DRAWN, 4, query_id="nobody"),
    ),
    case(
        "a sample of an unknown query, to score",
        SCORE,
        [DRAWN, "'nobody'"],
        changed(DRAWN, 4, query_id="nobody", correct=True),
    ),
    case(
        "a sample of an unknown query, to resample",
        RESAMPLE,
        [DRAWN, "'nobody'"],
        changed(DRAWN, 4, query_id="nobody", correct=False),
    ),
    case(
        "a negative token id",
        SCORE,
        [DRAWN, "row 1", "token_ids"],
        changed(DRAWN, 1, token_ids=[15, -1], correct=True),
    ),
    case(
        "a token id beyond the vocabulary",
        SCORE,
        [DRAWN, "row 1", "999", "vocabulary"],
        changed(DRAWN, 1, token_ids=[15, 999], correct=True),
    ),
    case(
        "a token id beyond the vocabulary, to resample",
        RESAMPLE,
        [DRAWN, "row 1", "999", "vocabulary"],
        changed(DRAWN, 1, token_ids=[15, 999], correct=False),
    ),
    case(
        "a token id beyond the vocabulary, for gains",
        GAINS,
        [DRAWN, "row 1", "999", "vocabulary"],
        changed(DRAWN, 1, token_ids=[15, 999], correct=True),
    ),
    case(
        "an image token in a solution",
        SCORE,
        [DRAWN, "row 1", "token 6"],
        changed(DRAWN, 1, token_ids=[15, 6], correct=True),
    ),
    case(
        "a prefix longer than its solution",
        CURATE,
        [AGAIN, "row 0", "prefix_len"],
        changed(AGAIN, 0, prefix_len=4000),
    ),
    case(
        "a log-probability that is not a number",
        CURATE,
        [DRAWN, "row 5", "logprob"],
        changed(DRAWN, 5, logprob=float("nan")),
    ),
    case(
        "scores that are not numbers",
        CURATE,
        [SCORED, "row 0", "s_vis"],
        lambda w: w.rows(SCORED, lambda rows: rows[0].update(s_vis=[float("nan")] * 3)),
    ),
    case(
        "scores of fewer layers",
        CURATE,
        [SCORED, "row 0", "s_vis"],
        lambda w: w.rows(SCORED, lambda rows: rows[0].update(s_vis=[0.5])),
    ),
    case(
        "a score of an unknown query",
        CURATE,
        [SCORED, "row 0", "'nobody'"],
        changed(SCORED, 0, query_id="nobody"),
    ),
    case("a score that stands twice", CURATE, [SCORED, "6 rows", "5"], twice(SCORED)),
    case("fewer scores than the manifest counts", CURATE, [SCORED, "rows"], shorter(SCORED)),
    case(
        "gains that are infinite", VIG, [GAINED, "row 0", "logprob"], changed(GAINED, 0, logprob=float("inf"))
    ),
    case(
        "a scores file in the place of samples",
        CURATE,
        [DRAWN, "missing columns"],
        lambda w: w.path(DRAWN).write_bytes(w.path(SCORED).read_bytes()),
    ),
]

TRAINING = [
    case("a training set that is missing", TRAIN, [CURATED], removed(CURATED)),
    case(
        "a training set without its manifest",
        TRAIN,
        [f"{CURATED}.manifest.json"],
        removed(f"{CURATED}.manifest.json"),
    ),
    case(
        "a training set that is empty", TRAIN, [CURATED, "rows"], lambda w: w.rows(CURATED, lambda rows: [])
    ),
    case("fewer examples than the manifest counts", TRAIN, [CURATED, "rows"], shorter(CURATED)),
    case("pairs in the place of examples", TRAIN, [CURATED, "missing columns"], lambda w: pairs_instead(w)),
    case(
        "an example of negative tokens",
        TRAIN,
        [CURATED, "row 2", "completion_ids"],
        changed(CURATED, 2, completion_ids=[-5]),
    ),
    case(
        "an example of tokens beyond the vocabulary",
        TRAIN,
        [CURATED, "row 2", "vocabulary"],
        changed(CURATED, 2, completion_ids=[5000]),
    ),
    case(
        "an example without a response",
        TRAIN,
        [CURATED, "row 0", "completion"],
        changed(CURATED, 0, completion=[]),
    ),
    case(
        "an example of a text that ends twice",
        TRAIN,
        [CURATED, "row 0", "response spells", "<|im_end|>"],
        changed(
            CURATED,
            0,
            completion=[{"role": "assistant", "content": [{"type": "text", "text": "4 <|im_end|>"}]}],
            completion_ids=None,
        ),
    ),
    case("an example without a prompt", TRAIN, [CURATED, "row 0", "prompt"], changed(CURATED, 0, prompt=[])),
    case(
        "an example with more images than its prompt shows",
        TRAIN,
        [CURATED, "row 0", "image"],
        lambda w: w.rows(CURATED, lambda rows: rows[0].update(images=rows[0]["images"] * 2)),
    ),
    case(
        "an example of a broken base",
        TRAIN,
        ["results/models/nano/model.safetensors"],
        cut("results/models/nano/model.safetensors"),
    ),
    case(
        "a base of a type that torch does not have",
        TRAIN,
        ["results/models/nano/config.json", "dtype", "float3"],
        lambda w: w.json("results/models/nano/config.json", lambda v: v.update(dtype="float3")),
    ),
    case(
        "an accelerate config that is missing",
        TRAIN,
        ["no.yaml"],
        lambda w: w.json(SUITE, lambda v: v["models"]["nano"]["training"].update(accelerate="no.yaml")),
    ),
    *[
        case(
            f"an accelerate config {name}",
            TRAIN,
            ["a.yaml", *says],
            lambda w, text=text: accelerated(w, text),
        )
        for name, text, says in (
            ("that is empty", "", []),
            ("that is a list", "- FSDP\n", []),
            ("without a kind", "num_processes: 2\n", ["distributed_type"]),
            ("of an unknown kind", "distributed_type: FSDPP\n", ["distributed_type", "FSDPP"]),
            ("whose kind is a list", "distributed_type: [FSDP]\n", ["distributed_type"]),
            ("with a tag", "distributed_type: !!python/name:os.system\n", ["python"]),
        )
    ],
]

PREDICTIONS = [
    case(
        "predictions that are missing",
        COLLECT,
        [POLICY, "predictions.parquet"],
        lambda w: (removed(PREDICTED)(w), removed(f"{PREDICTED}.manifest.json")(w)),
    ),
    case(
        "predictions without their manifest",
        COLLECT,
        [f"{PREDICTED}.manifest.json"],
        removed(f"{PREDICTED}.manifest.json"),
    ),
    case("a manifest whose predictions are gone", COLLECT, [PREDICTED, "no such file"], removed(PREDICTED)),
    case("predictions that are cut short", COLLECT, [PREDICTED, "parquet"], cut(PREDICTED)),
    case(
        "predictions without a column",
        COLLECT,
        [PREDICTED, "missing columns ['score']"],
        without(PREDICTED, "score"),
    ),
    case(
        "scores of predictions that are text",
        COLLECT,
        [PREDICTED, "'score'", "string"],
        typed(PREDICTED, "score", pa.string()),
    ),
    case(
        "a prediction that is not a number",
        COLLECT,
        [POLICY, "cells-test-00001", "score"],
        changed(PREDICTED, 1, score=float("nan")),
    ),
    case(
        "a prediction above one",
        COLLECT,
        [POLICY, "cells-test-00001", "score"],
        changed(PREDICTED, 1, score=100.0),
    ),
    case(
        "a prediction that is lacking",
        COLLECT,
        [POLICY, "cells-test-00002", "no prediction"],
        shorter(PREDICTED),
    ),
    case("a prediction too many", COLLECT, [POLICY, "cells-test-00000", "several"], twice(PREDICTED)),
    case(
        "a prediction of an unknown query",
        COLLECT,
        [POLICY, "nobody"],
        changed(PREDICTED, 0, query_id="nobody"),
    ),
    case(
        "predictions of another run",
        COLLECT,
        [PREDICTED, RUN],
        lambda w: w.path(PREDICTED).write_bytes(w.path(PREDICTED.replace(POLICY, RUN)).read_bytes()),
    ),
    case("a long table that is missing", TABLES, ["results/long.csv"], removed("results/long.csv")),
    case("a long table of no bytes", TABLES, ["results/long.csv"], content("results/long.csv", b"")),
    case(
        "a long table with another column",
        TABLES,
        ["results/long.csv", "columns"],
        lambda w: w.replace("results/long.csv", "cluster_id", "image_id"),
    ),
    case(
        "a long table with a score in words",
        TABLES,
        ["results/long.csv", "score"],
        lambda w: w.replace("results/long.csv", ",1.0\n", ",right\n"),
    ),
    case(
        "a long table in which a response is half unfinished",
        TABLES,
        ["results/long.csv", "unfinished", "0 or 1"],
        lambda w: w.replace("results/long.csv", ",0,0,1.0\n", ",0,2,1.0\n"),
    ),
    case(
        "a long table that is not text",
        TABLES,
        ["results/long.csv"],
        content("results/long.csv", b"\xff\xfe\x00"),
    ),
    case(
        "a long table of an unknown run",
        TABLES,
        ["zero-shot", "collect"],
        lambda w: w.replace("results/long.csv", "nano,grids,zero-shot", "nono,grids,zero-shot"),
    ),
    case(
        "test queries that changed after the evaluation",
        COLLECT,
        ["cells-test-00000"],
        changed(TEST_QUERIES, 0, query_id="other"),
    ),
    case(
        "test queries without a cluster",
        COLLECT,
        [TEST_QUERIES, "row 0", "cluster_id"],
        changed(TEST_QUERIES, 0, cluster_id=None),
    ),
    case("test queries that are cut short", EVALUATE, [TEST_QUERIES, "parquet"], cut(TEST_QUERIES)),
    case(
        "a test query of an unknown answer type",
        EVALUATE,
        [TEST_QUERIES, "row 0", "answer_type"],
        changed(TEST_QUERIES, 0, answer_type="cloze"),
    ),
    case(
        "a training set's manifest without its count",
        TABLES,
        [f"results/curation/{RUN}/train.parquet.manifest.json", "counts.examples"],
        lambda w: w.json(f"{CURATED}.manifest.json", lambda v: v["counts"].pop("examples")),
    ),
]


def pairs_instead(world: World) -> None:
    pq.write_table(pa.table({"query_id": ["a"], "chosen": ["b"]}), world.path(CURATED))


def accelerated(world: World, text: str) -> None:
    world.write("a.yaml", text)
    world.json(SUITE, lambda value: value["models"]["nano"]["training"].update(accelerate="a.yaml"))


@pytest.mark.parametrize("spoilt", [*QUERIES, *ROLLOUT_FILES, *TRAINING, *PREDICTIONS])
def test_a_malformed_file_between_stages_is_refused(spoilt: Case, world: World) -> None:
    refused(world, spoilt)

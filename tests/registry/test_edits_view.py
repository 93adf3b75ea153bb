"""The view of edits: which models count as edited, and what became of their scores."""

import json
import math

import pytest

from registry.catalog import now
from registry.scores import Score, score_row


def put(catalog, *, edges, scores, method="bitdelta"):
    """Models a to e, one run "r" of a recipe, edges (child, parent, role, status) and scores by model."""
    with catalog.write() as transaction:
        for model in "abcde":
            transaction.execute(
                "insert into store.model (id, kind, status, digest_name, signature, dtype, n_params, n_bytes, n_tensors, created_at) "
                "values (?, 'model', 'full', 'd', 's', 'F32', 1, 1, 1, now())",
                [model],
            )
        recipe = json.dumps({"method": method})
        transaction.execute("insert into store.recipe values ('q', ?, now())", [recipe])
        transaction.execute(
            "insert into store.run (id, recipe, status, output, model_id, engine_version, process, started_at) "
            "values ('r', 'q', 'COMPLETE', 'out', 'c', '1', 1, now())"
        )
        for child, parent, role, status in edges:
            run = "r" if status == "recorded" else None
            transaction.execute(
                "insert into store.edge values (?, ?, 'merge', ?, ?, null, 1.0, ?, ?, null, null)",
                [child, parent, role, status, run, now()],
            )
        for model, score in scores:
            row = score_row(model, score).model_dump()
            transaction.insert("score", {name: [value] for name, value in row.items()})


def score(value, stderr=0.01, *, task="arc", metric="acc", shots=0, origin="measured", source="s"):
    return Score(
        task, metric, value, stderr=stderr, n=100, harness="h", harness_version="1", shots=shots,
        origin=origin, source=source, date=None, raw="",
    )  # fmt: skip


def unified_view(before, after, *, more_is_better=True):
    """The class of an edit by one score before and after, written from the definition: two standard errors count."""
    if before.stderr is None or after.stderr is None:
        return None
    gain = (after.value - before.value) * (1 if more_is_better else -1)
    if abs(gain) <= 2 * math.sqrt(before.stderr**2 + after.stderr**2):
        return "competitive"
    return "improved" if gain > 0 else "decreased"


EDGES = [("c", "a", "model", "recorded"), ("c", "b", "base", "recorded")]


def edits(catalog):
    return catalog.rows("select * from edits order by all")


def test_a_child_of_one_parent_shows_what_became_of_its_score(catalog):
    scores = [("a", score(0.5)), ("b", score(0.1)), ("c", score(0.4))]
    put(catalog, edges=EDGES, scores=scores)
    (row,) = edits(catalog)
    assert (row["child"], row["parent"], row["method"]) == ("c", "a", "bitdelta")
    assert (row["task"], row["metric"], row["shots"], row["origin"]) == (
        "arc",
        "acc",
        0,
        "measured",
    )
    assert (row["parent_value"], row["child_value"]) == (0.5, 0.4)
    assert row["difference"] == pytest.approx(-0.1)
    assert row["difference_stderr"] == pytest.approx(0.0002**0.5)
    assert row["class"] == "decreased"


@pytest.mark.parametrize("stderr", [0.0, 0.01, 0.1, None])
@pytest.mark.parametrize("value", [0.25, 0.5, 0.52, 0.75])
@pytest.mark.parametrize("metric", ["acc", "perplexity"])
def test_the_class_is_that_of_the_definition(catalog, metric, value, stderr):
    before, after = score(0.5, metric=metric), score(value, stderr, metric=metric)
    put(catalog, edges=EDGES, scores=[("a", before), ("c", after)])
    (row,) = edits(catalog)
    more_is_better = metric == "acc"
    assert row["class"] == unified_view(before, after, more_is_better=more_is_better)


@pytest.mark.parametrize(
    ("metric", "is_worse"),
    [
        ("word_perplexity", True), ("ppl", True), ("bits_per_byte", True), ("eval_loss", True),
        ("wer", True), ("brier_score", True), ("acc", False), ("acc_norm,none", False),
        ("exact_match", False), ("f1", False), ("answer", False),
    ],
)  # fmt: skip
def test_more_of_an_error_is_worse(catalog, metric, is_worse):
    (row,) = catalog.rows("select store.less_is_better(?) as found", [metric])
    assert row["found"] is is_worse


def test_a_merge_of_two_is_no_edit(catalog):
    edges = [*EDGES, ("c", "d", "model", "recorded")]
    put(catalog, edges=edges, scores=[("a", score(0.5)), ("c", score(0.4))])
    assert edits(catalog) == []


@pytest.mark.parametrize("status", ["declared", "inferred", "measured"])
def test_only_what_our_run_made_is_an_edit(catalog, status):
    edges = [("c", "a", "parent", status)]
    put(catalog, edges=edges, scores=[("a", score(0.5)), ("c", score(0.4))])
    assert edits(catalog) == []


@pytest.mark.parametrize(
    "other",
    [{"task": "gsm"}, {"metric": "f1"}, {"shots": 5}, {"shots": None}, {"origin": "claimed"}],
)
def test_scores_of_different_things_are_not_compared(catalog, other):
    put(catalog, edges=EDGES, scores=[("a", score(0.5)), ("c", score(0.4, **other))])
    assert edits(catalog) == []


def test_scores_without_shots_are_compared_with_each_other(catalog):
    scores = [("a", score(0.5, shots=None)), ("c", score(0.4, shots=None))]
    put(catalog, edges=EDGES, scores=scores)
    assert [row["shots"] for row in edits(catalog)] == [None]


def test_of_several_sources_one_is_taken(catalog):
    scores = [("a", score(0.5, source="x")), ("a", score(0.7, source="w")), ("c", score(0.4))]
    put(catalog, edges=EDGES, scores=scores)
    (row,) = edits(catalog)
    assert row["parent_value"] == 0.7


def test_every_score_that_both_have_is_a_row(catalog):
    scores = [(m, score(0.5, task=task)) for m in "ac" for task in ("arc", "gsm")]
    put(catalog, edges=EDGES, scores=[*scores, ("c", score(0.5, task="only the child's"))])
    assert [(row["task"], row["class"]) for row in edits(catalog)] == [
        ("arc", "competitive"),
        ("gsm", "competitive"),
    ]

"""`reg candidates`."""

import pytest
from descent_trees import base, saved, tuned


@pytest.fixture(scope="module")
def made(make_place):
    """A place with a base and two children that are sketched, and a stranger."""
    place = make_place()
    b = base(1)
    saved(place.folder / "made" / "root", b)
    for seed in (2, 3):
        saved(place.folder / "made" / f"leaf{seed}", tuned(b, seed))
    saved(place.folder / "made" / "stranger", base(9))
    place.run("scan", "made")
    place.run("infer")
    return place


def test_the_document_has_candidates_best_first_with_reasons(made):
    found = made.json("candidates", "leaf2")
    assert [c["model"] for c in found] == ["leaf3", "root"]
    assert found[0].keys() == {"model", "model_id", "ok", "score", "reasons"}
    assert found[0]["ok"] is True
    assert 0.5 < found[0]["score"] <= 1
    checks = {r["check"]: r["detail"] for r in found[0]["reasons"]}
    assert "as far apart as strangers (sampled)" in checks["near"]
    assert checks["deltas"].startswith("deltas at cosine ")
    assert found[0]["reasons"][0].keys() == {"check", "ok", "detail"}


def test_people_see_a_table_and_loops_ids(made):
    lines = made.run("candidates", "leaf2").stdout.splitlines()
    assert lines[0].split() == ["model", "score", "why"]
    assert lines[1].split()[:2] == ["yes", "leaf3"]
    assert "an average keeps both with chance" in lines[1]
    ids = [c["model_id"] for c in made.json("candidates", "leaf2")]
    assert made.run("candidates", "leaf2", "--quiet").stdout.split() == ids
    assert made.run("candidates", "leaf2", "-q", "--limit", "1").stdout.split() == ids[:1]


def test_the_verdict_of_the_pair_is_the_same(made):
    verdict = made.json("mergeable", "leaf2", "leaf3")
    first = made.json("candidates", "leaf2", "--limit", "1")[0]
    assert first["reasons"][: len(verdict["reasons"])] == verdict["reasons"]
    assert 0.5 * verdict["score"] <= first["score"] <= verdict["score"]


def test_nobody_to_merge_with_says_what_to_type(made):
    result = made.run("candidates", "stranger")
    assert result.stdout == "no model to merge stranger with is known\n"
    assert "reg infer finds kin by their weights" in result.stderr
    assert made.json("candidates", "stranger") == []


def test_models_that_were_never_sketched_are_counted(place):
    place.run("scan", "models")
    result = place.run("candidates", "chat")
    assert "reg infer tells how far apart they lie; of 2 no sketch was compared" in result.stderr
    assert "nothing is measured: reg infer" in result.stdout


def test_an_unknown_model_is_an_error(made):
    assert "no model" in made.run("candidates", "nobody", code=1).stderr

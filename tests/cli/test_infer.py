"""`reg infer`."""

import shutil

import pytest
from descent_trees import base, permuted, saved, tuned


@pytest.fixture
def made(place):
    """A place with a base, two children, and a catalog that knows them."""
    b = base(1)
    saved(place.folder / "made" / "root", b)
    for seed in (2, 3):
        saved(place.folder / "made" / f"leaf{seed}", tuned(b, seed))
    place.run("scan", "made")
    return place


def test_infer_prints_who_descends_from_whom_and_why(made):
    lines = made.run("infer").stdout.splitlines()
    assert lines[0].split() == [
        "child", "parent", "relation", "role", "coefficient", "confidence", "why",
    ]  # fmt: skip
    assert [line.split()[:4] for line in lines[1:]] == [
        ["leaf2", "root", "finetune", "parent"],
        ["leaf3", "root", "finetune", "parent"],
    ]
    assert all("% of the parent's weights" in line for line in lines[1:])


def test_the_document_has_edges_and_what_they_rest_on(made):
    found = made.json("infer", "--scalars", "8192")
    assert found.keys() == {
        "edges", "refuted", "scope", "n_models", "n_latent", "read_bytes", "seconds", "problems", "unproved", "n_afar",
    }  # fmt: skip
    assert (found["scope"], found["n_models"], found["n_latent"]) == ("sampled", 3, 0)
    assert found["problems"] == {}
    assert found["read_bytes"] > 0
    edge = found["edges"][0]
    assert edge.keys() == {
        "child", "parent", "relation", "role", "coefficient", "confidence", "why", "statistic",
        "value", "scope", "child_id", "parent_id",
    }  # fmt: skip
    assert (edge["child"], edge["parent"], edge["statistic"]) == ("leaf2", "root", "relative_l2")
    assert 0.5 < edge["confidence"] <= 1
    assert edge["parent_id"] == made.json("show", "root")["id"]


def test_full_looks_at_everything(made):
    found = made.json("infer", "--full")
    assert found["scope"] == "full"
    assert [(e["child"], e["parent"], e["scope"]) for e in found["edges"]] == [
        ("leaf2", "root", "full"), ("leaf3", "root", "full"),
    ]  # fmt: skip
    assert all("over all" in e["why"] for e in found["edges"])


def test_claims_can_be_left_out(made):
    with_them, without = made.json("infer"), made.json("infer", "--no-claims")
    assert without["edges"] == with_them["edges"]  # nobody claims anything
    assert made.json("infer")["refuted"] == []


def test_a_claim_that_is_refuted_is_named(made):
    saved(made.folder / "made" / "liar", base(9), card="base_model: root")
    made.run("scan", "made")
    (refuted,) = made.json("infer")["refuted"]
    assert (refuted["child"], refuted["parent"]) == ("liar", "root")
    assert refuted["why"] == "the weights have nothing in common"
    assert 0 < refuted["probability"] < 0.5


def test_quiet_prints_children(made):
    ids = [edge["child_id"] for edge in made.json("infer")["edges"]]
    assert made.run("infer", "-q").stdout.split() == ids


def test_a_model_without_weights_is_left_out_with_a_warning(made):
    shutil.rmtree(made.folder / "made" / "leaf3")
    result = made.run("infer")
    gone = made.folder / "made" / "leaf3"
    assert (
        f"leaf3 was left out: the files of leaf3 are gone; the catalog knows of {gone}: reg scan"
        in result.stderr
    )
    assert "leaf2" in result.stdout


def test_full_takes_the_sketch_of_a_model_that_was_truncated_and_says_what_it_could_not_measure(
    made,
):
    made.run("infer")
    file = made.folder / "made" / "leaf3" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    result = made.run("infer", "--full")
    why = f"the files of leaf3 at {file.parent} changed since they were scanned: reg scan {file.parent}"
    assert f"what leaf3 comes from rests on samples: {why}" in result.stderr
    found = made.json("infer", "--full")
    assert [(e["child"], e["parent"], e["scope"]) for e in found["edges"]] == [
        ("leaf2", "root", "full"), ("leaf3", "root", "sampled"),
    ]  # fmt: skip
    assert found["problems"] == {}
    assert list(found["unproved"].values()) == [why]


def test_full_goes_on_without_a_model_that_was_never_sketched_and_compares_whole_ones(made):
    shutil.rmtree(made.folder / "made" / "leaf3")
    found = made.json("infer", "--full")
    assert [(e["child"], e["scope"]) for e in found["edges"]] == [("leaf2", "full")]
    assert len(found["problems"]) == 1
    assert found["unproved"] == {}


def test_without_weights_at_all_the_first_reason_is_given(made):
    shutil.rmtree(made.folder / "made")
    result = made.run("infer", "--full", code=1)
    assert "weights of 0 of its models can be read; lineage takes two; " in result.stderr
    assert " are gone; the catalog knows of " in result.stderr


def test_without_a_catalog_or_with_one_model_it_says_what_to_type(place):
    (place.folder / ".reg" / "catalog.duckdb").unlink()
    result = place.run("infer", code=1)
    assert "there is no catalog at" in result.stderr
    assert "reg scan PATH makes one" in result.stderr
    place.run("scan", "models/base")
    result = place.run("infer", code=1)
    assert "weights of 1 of its models can be read" in result.stderr
    assert "reg scan PATH adds models" in result.stderr


def test_strangers_are_no_error(place):
    for seed in (1, 2):
        saved(place.folder / "made" / f"s{seed}", base(seed))
    place.run("scan", "made")
    assert place.run("infer").stdout == "no model descends from another\n"


def test_full_and_scalars_exclude_each_other(place):
    result = place.run("infer", "--full", "--scalars", "4096", code=2)
    assert "--scalars and --full exclude each other" in result.stderr


def test_too_few_scalars_are_refused(place):
    assert "1023" in place.run("infer", "--scalars", "1023", code=2).stderr


def test_a_copy_in_another_basis_is_homologous_and_not_mergeable_as_it_is(made):
    turned = permuted(tuned(base(1), 2), 5)
    saved(made.folder / "made" / "turned", turned)
    made.run("scan", "made")
    relations = {e["child"]: (e["parent"], e["relation"]) for e in made.json("infer")["edges"]}
    assert relations["turned"] == ("leaf2", "permuted")
    verdict = made.json("mergeable", "leaf3", "turned", code=3)
    checks = {r["check"]: r for r in verdict["reasons"]}
    assert checks["homologous"]["ok"] is True
    assert checks["aligned"]["ok"] is False
    assert "weight_matching" in checks["aligned"]["detail"]
    assert made.json("mergeable", "leaf2", "leaf3")["ok"] is True
    refused = made.run("merge", "--method", "linear", "leaf3", "turned", "-o", "out", code=1)
    assert "one network in two bases" in refused.stderr
    made.run("stats", "--all")
    compared = made.json("sql", "select child, base from delta_summary")
    assert not [row for row in compared if "turned" in (row["child"], row["base"])]


def test_a_model_that_is_not_finite_is_named(made):
    broken = tuned(base(1), 9)
    name = min(broken)
    broken[name] = broken[name] * float("nan")
    saved(made.folder / "made" / "broken", broken)
    made.run("scan", "made")
    found = made.run("infer")
    assert "broken was left out: holds NaN or infinity" in found.stderr
    assert "broken" not in found.stdout


def test_an_edge_rests_on_its_kind_and_on_its_direction(made):
    made.run("infer")
    rows = made.json(
        "sql", "select statistic from evidence where child_name = 'leaf2' order by all"
    )
    assert [row["statistic"] for row in rows] == ["direction", "relative_l2"]

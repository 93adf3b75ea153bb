"""`reg stats`."""

import pytest


def test_stats_measures_each_child_against_its_base(scanned):
    rows = scanned.json("stats", "chat", "math")
    assert [(r["child"], r["base"], r["n_tensors"]) for r in rows] == [
        ("chat", "base", 19),
        ("math", "base", 19),
    ]
    assert 0.5 < rows[1]["relative_l2"] / rows[0]["relative_l2"] / 2 < 2
    assert scanned.json("stats", "chat", "math") == rows


def test_all_is_every_pair_and_reads_nothing_twice(known):
    rows = known.json("stats", "--all")
    assert {(r["child"], r["base"]) for r in rows} >= {
        ("chat", "base"),
        ("math", "base"),
        ("merged", "base"),
    }
    before = known.json("sql", "select max(measured_at) as t from delta_summary")
    known.run("stats", "--all")
    assert known.json("sql", "select max(measured_at) as t from delta_summary") == before


def test_a_base_may_be_named(place):
    place.run("scan", "models")
    (row,) = place.json("stats", "math", "--base", "models/chat")
    assert (row["child"], row["base"]) == ("math", "chat")


def test_layers_and_spectra(scanned):
    rows = scanned.json("stats", "chat", "--layers", "--spectral")
    assert {(r["layer"], r["module"]) for r in rows} >= {
        (0, "mlp_up"),
        (1, "attention_q"),
        (None, "embedding"),
    }
    ranks = scanned.json("sql", "select stable_rank from deltas where module = 'mlp_up'")
    assert all(row["stable_rank"] >= 1 for row in ranks)


def test_a_model_without_a_base_is_an_error_that_says_what_to_type(scanned):
    result = scanned.run("stats", "base", code=1)
    assert "no base of base is known" in result.stderr
    assert "--base MODEL" in result.stderr


def test_nothing_to_measure_is_no_error(place):
    place.run("scan", "models/base")
    assert place.json("stats", "--all") == []
    assert place.run("stats", "--all").stdout == "no pairs to measure\n"


def test_children_or_all(known):
    known.run("stats", code=2)
    known.run("stats", "chat", "--all", code=2)


def test_quiet_prints_children(known):
    assert known.run("stats", "chat", "-q").stdout.strip() == known.json("show", "chat")["id"]


def test_models_of_the_hub_are_estimated_from_their_sketches(place, hub, family):
    for folder in (family.base, family.chat):
        hub.add(f"org/{folder.name}", folder)
    place.run("scan", "hf://org/*")
    why = place.run("stats", "org/chat", code=1).stderr
    assert "there is no sketch of them" in why
    assert "reg scan --sketch hf://org/chat@" in why
    assert place.json("stats", "--all") == []
    place.run("scan", "--sketch", "hf://org/*")
    hub.log.clear()
    (row,) = place.json("stats", "org/chat")
    assert (row["child"], row["base"], row["scope"]) == ("org/chat", "org/base", "sampled")
    assert row["relative_l2_error"] > 0
    assert place.json("stats", "--all") == [row]
    assert "estimated from samples" in place.run("stats", "org/chat").stdout
    assert place.json("sql", "from delta_summary") == []
    place.run("stats", "org/chat", "--spectral", code=1)
    assert len(hub.log) == 0
    (near,) = place.json("stats", "org/chat", "--base", "models/math")
    assert (near["base"], near["scope"]) == ("math", "sampled")
    assert len(hub.log) == 0
    (whole,) = place.json("stats", "hf://org/chat", "--base", "hf://org/base")
    assert whole["scope"] == "full"
    assert whole["relative_l2"] == pytest.approx(row["relative_l2"], rel=0.2)

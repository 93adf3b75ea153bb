"""`reg methods`."""

from engine.methods import all_methods


def test_every_method_is_listed(place):
    rows = place.json("methods")
    assert [row["name"] for row in rows] == list(all_methods())
    promised = {"name", "space", "scope", "parameters", "paper"}
    assert all(promised <= row.keys() for row in rows)
    assert place.run("methods", "-q").stdout.split() == list(all_methods())
    out = place.run("methods").stdout
    assert all(name in out for name in all_methods())


def test_one_method_is_explained(place):
    (row,) = place.json("methods", "ties")
    density = next(p for p in row["parameters"] if p["name"] == "density")
    assert density["allowed"] == "a number in (0, 1]"
    assert density["per_model"] is True
    out = place.run("methods", "ties").stdout
    assert "2306.01708" in out
    assert "(0, 1]" in out
    assert "elect" in out
    assert row["devices"] == ["cpu", "cuda"]
    assert "cpu, cuda" in out
    assert place.json("methods", "tsv_merge")[0]["devices"] == ["cpu"]


def test_an_unknown_method_is_answered_with_the_nearest(place):
    assert "did you mean ties?" in place.run("methods", "tise", code=1).stderr

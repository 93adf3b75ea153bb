"""Edits of one model: their error when they are made, their class when they are scored."""

from pathlib import Path

import pytest

ZOO = Path(__file__).parents[2] / "data" / "zoo"
SUITE = str(ZOO / "suites" / "arithmetic.jsonl")


@pytest.fixture
def edited(place):
    """A place that knows the trained expert, and edits of it: a mild one and a cruel one."""
    place.run("scan", str(ZOO / "base"), str(ZOO / "arithmetic"))
    merge = ("merge", "--method", "bitdelta", "arithmetic", "-o", "bits")
    found = {"bits": place.json(*merge)}
    merge = (
        "merge",
        "--method",
        "expo",
        "--set",
        "alpha=-0.9",
        "--dtype",
        "float32",
        "arithmetic",
        "-o",
        "back",
    )
    return place, found | {"back": place.json(*merge)}


def test_an_edit_reports_its_error_and_where_scores_exist_its_class(edited):
    place, made = edited
    (note,) = [n for n in made["back"]["notes"] if "error of the edit" in n]
    assert note.startswith("error of the edit, relative to the task vector: 0.9 (")
    assert any("error of the edit" in n for n in made["bits"]["notes"])
    assert "error of the edit" in (place.folder / "back" / "README.md").read_text()
    place.run("score", "run", "arithmetic", SUITE, "--limit", "60")
    told = place.run("score", "run", "back", "bits", SUITE, "--limit", "60").stderr
    assert "back is arithmetic edited by expo: decreased on arithmetic" in told
    assert "bits is arithmetic edited by bitdelta: " in told
    rows = place.json("sql", "select child_name, class from edits order by all")
    assert {row["child_name"] for row in rows} == {"back", "bits"}


def test_a_cast_reports_the_error_of_the_weights(place):
    place.run("scan", "models/chat")
    made = place.json("merge", "--method", "cast", "--dtype", "float16", "chat", "-o", "half")
    assert any("error of the edit, relative to the weights: 0" in n for n in made["notes"])


def test_a_merge_of_two_is_no_edit(known):
    assert known.json("sql", "select * from edits") == []

"""`reg scan`."""

import shutil


def test_scan_says_what_it_found(place):
    found = place.json("scan", "models")
    assert {k: found[k] for k in ("scanned", "new", "unchanged", "updated", "gone", "casts")} == {
        "scanned": 3, "new": 3, "unchanged": 0, "updated": 0, "gone": 0, "casts": 0,
    }  # fmt: skip
    assert [m["name"] for m in found["models"]] == ["base", "chat", "math"]
    assert found["problems"] == []
    assert place.json("scan", "models")["unchanged"] == 3


def test_one_bad_file_is_a_problem_and_not_the_end(place):
    bad = place.folder / "models" / "bad"
    bad.mkdir()
    (bad / "model.safetensors").write_bytes(b"\xff" * 64)
    found = place.json("scan", "models")
    assert found["new"] == 4
    assert len(found["models"]) == 3
    (problem,) = found["problems"]
    assert problem["address"] == str(bad)
    assert problem["file"] == "model.safetensors"
    assert problem["error"] == "HeaderTooLarge"
    said = place.run("scan", "models")
    assert "4 scanned: 4 unchanged" in said.stdout
    assert "HeaderTooLarge" in said.stdout
    assert "note: 1 problem" in said.stderr


def test_quiet_prints_each_id_once(place):
    shutil.copytree(place.folder / "models" / "base", place.folder / "models" / "copy")
    ids = place.run("scan", "models", "-q").stdout.split()
    assert len(ids) == len(set(ids)) == 3


def test_casts_are_found_where_there_can_be_any(place, family):
    shutil.copytree(family.original, place.folder / "models" / "original")
    assert place.json("scan", "models")["casts"] == 1
    edges = place.json(
        "sql", "select child_name, parent_name, relation, status from edges where relation = 'cast'"
    )
    assert edges == [
        {"child_name": "base", "parent_name": "original", "relation": "cast", "status": "measured"}
    ]
    assert "found to be a cast" not in place.run("scan", "models").stdout


def test_headers_only_reads_no_weights(place):
    assert {m["status"] for m in place.json("scan", "models", "--headers-only")["models"]} == {
        "header"
    }


def test_an_address_that_does_not_exist_is_an_error(place):
    assert "nowhere" in place.run("scan", "nowhere", code=1).stderr

"""`reg show`."""

import json


def test_show_gives_programs_everything(known):
    found = known.json("show", "merged")
    promised = {
        "id",
        "name",
        "tensors",
        "claims",
        "edges",
        "scores",
        "recipe",
        "deltas",
        "files",
        "problems",
    }
    assert promised <= found.keys()
    assert found["recipe"]["method"] == "task_arithmetic"
    assert found["recipe"]["modules"][0]["slices"][0]["sources"][0]["parameters"]["weight"] == 0.6
    assert {e["relation"] for e in found["edges"]} == {"merge"}
    assert found["parents"] == ["base", "chat", "math"]
    assert found["tensors"][0]["shape"] == [48, 16]
    assert len(found["tensors"]) == found["n_tensors"] == 19


def test_show_finds_a_model_by_name_path_id_and_its_beginning(known):
    id_ = known.json("show", "chat")["id"]
    for text in ("models/chat", id_, id_[:8], str(known.folder / "models" / "chat")):
        assert known.run("show", text, "-q").stdout == id_ + "\n"


def test_show_scans_a_path_it_does_not_know(place):
    assert place.json("show", "models/base")["name"] == "base"
    assert [row["name"] for row in place.json("ls")] == ["base"]


def test_show_says_what_is_measured_claimed_and_scored(known):
    found = known.json("show", "chat")
    assert found["recipe"] is None
    assert [(d["base"], d["n_tensors"]) for d in found["deltas"]] == [("base", 19)]
    assert [(s["task"], s["value"]) for s in found["scores"]] == [("gsm8k", 0.5)]
    assert "base_model" in {c["predicate"] for c in found["claims"]}
    assert {e["parent_name"] for e in found["edges"]} == {"base", "chat"}


def test_people_see_few_tensors_unless_they_ask(scanned, family):
    few = scanned.run("show", "base").stdout
    every = scanned.run("show", "base", "--tensors").stdout
    assert "model.layers.1.mlp.up_proj.weight" in every
    assert "tensors (19)" in few
    assert few.count("BF16") == 20  # the model's own dtype, and 19 tensors
    assert "edges (2)" in few
    assert "claims" in few


def test_what_cannot_be_read_is_named(place):
    bad = place.folder / "bad.safetensors"
    bad.write_bytes(b"\x00" * 20)
    result = place.run("show", "bad.safetensors", "--json", code=1)
    assert "bad.safetensors" in json.loads(result.stderr)["message"]

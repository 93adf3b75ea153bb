"""GGUF from scan to lineage."""

import shutil

import pytest
from gguf import GGMLQuantizationType as Type
from ggufs import save_gguf, save_split

KEYS = {
    "general.name": "Base", "general.license": "apache-2.0", "general.base_model.count": 1,
    "general.base_model.0.name": "Base",
}  # fmt: skip


@pytest.fixture
def quants(place):
    """Two quantisations of a model that is here, the scan of all."""
    for dtype in (Type.Q4_0, Type.Q8_0):
        save_gguf(place.folder / "models" / "quants" / f"small-{dtype.name}.gguf", dtype, keys=KEYS)
    return place.json("scan", "models")


def test_quantised_files_descend_from_the_model_that_is_here(place, quants):
    assert [m["name"] for m in quants["models"]] == [
        "base", "chat", "math", "small-Q4_0", "small-Q8_0",
    ]  # fmt: skip
    assert {m["status"] for m in quants["models"]} == {"full"}
    assert quants["problems"] == []
    edges = place.json(
        "sql",
        "select child_name, parent_name, relation from edges where relation = 'quantized' order by 1",
    )
    assert [tuple(e.values()) for e in edges] == [
        ("small-Q4_0", "base", "quantized"), ("small-Q8_0", "base", "quantized"),
    ]  # fmt: skip
    assert "small-Q4_0  quantized" in place.run("lineage", "base").stdout


def test_show_says_what_is_in_it(place, quants):
    shown = place.json("show", "small-Q4_0")
    assert (shown["family"], shown["dtype"], shown["license"]) == ("llama", "Q4_0", "apache-2.0")
    assert (shown["n_params"], shown["n_bytes"]) == (4352, 4096 // 32 * 18 + 1024)
    rows = place.json("sql", "select name, dtype, shape, layer, module from tensors where model_id in "
                      "(select id from models where name = 'small-Q4_0') order by name")  # fmt: skip
    assert [tuple(r.values()) for r in rows] == [
        ("blk.0.attn_norm.weight", "F32", "[256]", 0, "norm"),
        ("blk.0.attn_q.weight", "Q4_0", "[4, 512]", 0, "attention_q"),
        ("token_embd.weight", "Q4_0", "[8, 256]", None, "embedding"),
    ]


def test_a_second_scan_reads_nothing_and_verify_agrees(place, quants):
    assert place.json("scan", "models")["unchanged"] == 5
    assert place.json("verify", "small-Q8_0")["ok"]
    path = place.folder / "models" / "quants" / "small-Q8_0.gguf"
    raw = bytearray(path.read_bytes())
    raw[-40] ^= 1
    path.write_bytes(raw)
    assert not place.json("verify", "small-Q8_0", code=3)["ok"]
    assert place.json("scan", "models")["updated"] == 1
    path.unlink()
    assert place.json("scan", "models")["gone"] == 1


def test_the_engine_refuses_it_by_name(place, quants):
    save_gguf(place.folder / "models" / "full" / "full.gguf", Type.F16, seed=1)
    place.run("scan", "models")
    for words in (
        ("plan", "--method", "linear", "small-Q4_0", "small-Q8_0"),
        ("merge", "--method", "linear", "full", "models/full/full.gguf", "-o", "out"),
        ("stats", "small-Q4_0", "--base", "base"),
    ):
        said = place.run(*words, code=1)
        assert "is GGUF (" in said.stderr
        assert "reg lineage" in said.stderr
    assert not (place.folder / "out").exists()


def test_beside_safetensors_both_are_models(place):
    folder = place.folder / "models" / "base"
    save_gguf(folder / "base-Q4_0.gguf", keys=KEYS)
    found = place.json("scan", "models/base")
    assert [m["name"] for m in found["models"]] == ["base", "base-Q4_0"]
    ids = [m["id"] for m in found["models"]]
    shutil.rmtree(place.folder / "models" / "chat")
    (folder / "base-Q4_0.gguf").unlink()
    again = place.json("scan", "models/base")
    assert [m["id"] for m in again["models"]] == ids[:1]
    assert again["gone"] == 1


def test_a_new_quantisation_beside_a_model_does_not_stop_a_merge(place):
    place.run("scan", "models")
    save_gguf(place.folder / "models" / "base" / "base-Q4_0.gguf", keys=KEYS)
    place.run("plan", "--method", "linear", "base", "chat")


def test_parts_are_one_model_and_a_missing_part_is_a_problem(place):
    parts = save_split(place.folder / "models" / "split", "big")
    (model,) = place.json("scan", str(parts[1]))["models"]
    assert model["name"] == "big"
    assert place.json("show", "big")["n_tensors"] == 3
    parts[2].unlink()
    (problem,) = place.json("scan", "models/split")["problems"]
    assert problem["error"] == "MissingShard"


def test_a_damaged_file_is_a_problem_and_not_the_end(place, quants):
    folder = place.folder / "models" / "quants"
    (folder / "cut.gguf").write_bytes((folder / "small-Q4_0.gguf").read_bytes()[:300])
    found = place.json("scan", "models", "--headers-only")
    assert [(p["file"], p["error"]) for p in found["problems"]] == [("cut.gguf", "TruncatedFile")]
    assert found["unchanged"] == 5


def test_an_inference_leaves_blocks_out(place, quants):
    said = place.run("infer")
    assert "quantised in blocks" in said.stderr + said.stdout

"""`reg extract`."""

import contextlib

import pytest
import torch
from safetensors.torch import load_file

from registry.catalog import Catalog
from registry.errors import CatalogDamaged


def test_extract_says_what_it_made(scanned):
    made = scanned.json("extract", "chat", "--base", "base", "--rank", "3", "-o", "out/lora")
    assert made["model"] == "lora"
    assert made["folder"] == str(scanned.folder / "out" / "lora")
    assert made["ranks"] == [3]
    assert 0 < made["relative_error"] < 1
    assert 0 < made["n_bytes"] < made["child_bytes"]
    assert {change["action"] for change in made["changes"]} == {"low_rank", "whole"}
    shown = scanned.json("show", "lora")
    assert (shown["id"], shown["kind"]) == (made["id"], "adapter")


def test_people_read_the_same_and_what_to_type_next(scanned):
    result = scanned.run("extract", "chat", "--rank", "2", "-o", "lora")
    for title in ("model", "rank", "relative error", "wrote", "child has"):
        assert title in result.stdout
    hint = result.stderr.splitlines()[-1]
    assert hint == "hint: reg merge --method passthrough base+lora -o DIR"
    scanned.run(*hint.removeprefix("hint: reg ").replace("DIR", "worn").split())
    assert scanned.json("show", "worn")["n_params"] == scanned.json("show", "chat")["n_params"]


def test_quiet_prints_the_adapter(scanned):
    made = scanned.run("extract", "chat", "--rank", "2", "-o", "lora", "-q").stdout.strip()
    assert made == scanned.json("show", "lora")["id"]


def test_put_on_at_full_rank_it_is_the_child(scanned, family):
    scanned.run("extract", "chat", "--energy", "1", "-o", "lora")
    scanned.run("merge", "--method", "passthrough", "base+lora", "-o", "worn")
    worn, chat = (
        load_file(folder / "model.safetensors") for folder in (scanned.folder / "worn", family.chat)
    )
    assert worn.keys() == chat.keys()
    for name, tensor in chat.items():
        torch.testing.assert_close(worn[name], tensor, rtol=2**-7, atol=1e-6)


def test_the_one_base_that_is_known_is_taken(scanned):
    named = scanned.json("extract", "chat", "--base", "base", "--rank", "2", "-o", "a")
    found = scanned.json("extract", "chat", "--rank", "2", "-o", "b")
    assert (found["base"], found["id"]) == (named["base"], named["id"])


def test_a_model_without_a_base_is_an_error_that_says_what_to_type(scanned):
    result = scanned.run("extract", "base", "--rank", "2", "-o", "lora", code=1)
    assert "no base of base is known" in result.stderr
    assert "hint: reg extract base --base MODEL" in result.stderr
    assert not (scanned.folder / "lora").exists()


def test_of_several_bases_none_is_guessed(place):
    card = "---\nbase_model: chat\nbase_model_relation: finetune\n---\n"
    (place.folder / "models" / "math" / "README.md").write_text(card)
    place.run("scan", "models")
    result = place.run("extract", "math", "--rank", "2", "-o", "lora", code=1)
    assert "error: math has 2 bases: " in result.stderr
    assert "hint: reg extract math --base " in result.stderr


def test_models_need_not_be_scanned_first(place):
    words = ("extract", "models/chat", "--base", "models/base", "--rank", "2")
    assert place.json(*words, "-o", "lora")["ranks"] == [2]


def test_projections_only_says_what_is_left_out(scanned):
    words = ("extract", "chat", "--rank", "2", "--projections-only", "-o", "lora")
    made = scanned.json(*words)
    assert {change["action"] for change in made["changes"]} == {"low_rank", "left_out"}
    assert "left out" in made["notes"][0]


@pytest.mark.parametrize(
    "words",
    [(), ("--rank", "0"), ("--rank", "1.5"), ("--energy", "0"), ("--energy", "1.1")],
    ids=" ".join,
)
def test_rank_or_energy_and_in_range(words, scanned):
    scanned.run("extract", "chat", *words, "-o", "lora", code=2)
    assert not (scanned.folder / "lora").exists()


def test_an_output_that_is_there_is_left_alone(scanned):
    scanned.run("extract", "chat", "--rank", "2", "-o", "lora")
    before = (scanned.folder / "lora" / "adapter_model.safetensors").read_bytes()
    result = scanned.run("extract", "math", "--rank", "2", "-o", "lora", code=1)
    assert "exists and is not empty" in result.stderr
    assert (scanned.folder / "lora" / "adapter_model.safetensors").read_bytes() == before


def test_a_model_that_did_not_change_has_nothing_to_extract(scanned):
    result = scanned.run("extract", "base", "--base", "base", "--rank", "2", "-o", "lora", code=1)
    assert "there is nothing to extract" in result.stderr


def test_a_licence_that_both_state_is_stated(place):
    for name in ("chat", "base"):
        card = place.folder / "models" / name / "README.md"
        card.write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    place.run("scan", "models")
    place.run("extract", "chat", "--base", "base", "--rank", "2", "-o", "lora")
    assert "license: mit\n" in (place.folder / "lora" / "README.md").read_text(encoding="utf-8")


def test_a_catalog_that_may_not_be_written_is_told_of_before_anything_is_made(scanned, monkeypatch):
    @contextlib.contextmanager
    def closed(_catalog):
        message = "catalog may not be written"
        raise CatalogDamaged(message)
        yield

    monkeypatch.setattr(Catalog, "write", closed)
    words = ("extract", "chat", "--base", "base", "--rank", "1", "-o", "unwritten")
    assert "may not be written" in scanned.run(*words, code=1).stderr
    assert not (scanned.folder / "unwritten").exists()

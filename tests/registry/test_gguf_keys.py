"""What the keys of GGUF say of a model's descent."""

import pytest
from gguf import GGMLQuantizationType as Type
from ggufs import save_gguf

from registry.checkpoint import read_checkpoint
from registry.claims import read_claims
from registry.gguf_keys import facts, repository, statements

BASE = "general.base_model.0."
LLAMA = {
    f"{BASE}name": "Llama 3.2 1B", f"{BASE}organization": "Meta Llama",
    f"{BASE}repo_url": "https://huggingface.co/meta-llama/Llama-3.2-1B", "general.base_model.count": 1,
}  # fmt: skip


def said(path):
    claims, problems = read_claims(read_checkpoint(path))
    assert not problems
    return {(c.predicate, c.object, c.relation) for c in claims if c.source == "gguf"}


def test_the_base_of_what_was_converted_is_no_parent_by_quantisation(tmp_path):
    keys = {"general.name": "Hermes 3", "general.license": "llama3.2", **LLAMA}
    assert said(save_gguf(tmp_path / "x.gguf", keys=keys)) == {
        ("relation", "quantized", None),
        ("base_model", "meta-llama/Llama-3.2-1B", None),
        ("license", "llama3.2", None),
    }


@pytest.mark.parametrize("name", ["Llama 3.2 1B", "llama-3.2-1b", "Llama_3.2_1B"])
@pytest.mark.parametrize(
    ("dtype", "relation"), [(Type.Q4_0, "quantized"), (Type.Q4_K, "quantized"), (Type.BF16, "cast")]
)
def test_a_base_of_the_same_name_is_what_was_quantised(tmp_path, name, dtype, relation):
    keys = {"general.name": name, **LLAMA}
    assert ("base_model", "meta-llama/Llama-3.2-1B", relation) in said(
        save_gguf(tmp_path / "x.gguf", dtype, keys=keys)
    )


def test_the_source_is_what_was_quantised(tmp_path):
    keys = {"general.source.repo_url": "https://huggingface.co/org/tuned/tree/main", **LLAMA}
    bases = {c[1:] for c in said(save_gguf(tmp_path / "x.gguf", keys=keys)) if c[0] == "base_model"}
    assert bases == {("org/tuned", "quantized"), ("meta-llama/Llama-3.2-1B", None)}


def test_without_an_address_the_names_are_joined():
    (base,) = statements(
        {f"{BASE}name": "Llama 3.2 1B", f"{BASE}organization": "Meta Llama"}, "cast"
    )
    assert base.value == "Meta-Llama/Llama-3.2-1B"
    (base,) = statements({f"{BASE}name": "Phi 4", f"{BASE}repo_url": "ftp://elsewhere"}, "cast")
    assert base.value == "Phi-4"
    assert not list(statements({f"{BASE}organization": "Nobody"}, "cast"))


def test_bases_are_taken_by_number_whatever_the_count_says():
    keys = {f"general.base_model.{i}.name": f"m{i}" for i in (10, 2)}
    keys["general.base_model.count"] = 2**31
    assert [s.value for s in statements(keys, "cast")] == ["m2", "m10"]


@pytest.mark.parametrize(("text", "name"), [
    ("https://huggingface.co/a/b", "a/b"), ("http://hf.co/a/b.c?x=1", "a/b.c"),
    ("https://huggingface.co/datasets/a/b", None), ("https://huggingface.co/papers/1234.5", None),
    ("https://github.com/a/b", None), ("https://huggingface.co.evil/a/b", None), ("a/b", None), (7, None),
    ("https://huggingface.co/a/b\nc", None),
])  # fmt: skip
def test_repositories_are_told_by_their_address(text, name):
    assert repository(text, bare=False) == name


def test_a_licence_of_ones_own_has_its_name():
    keys = {"general.license": "other", "general.license.name": "house"}
    assert [(s.predicate, s.value) for s in statements(keys, "cast")] == [("license", "house")]


def test_hostile_words_cost_the_claim_and_not_the_model(tmp_path):
    keys = {f"{BASE}name": "a\x1b[2Jb", "general.license": "x" * 5000}
    path = save_gguf(tmp_path / "x.gguf", keys=keys)
    claims, (problem,) = read_claims(read_checkpoint(path))
    assert [c.predicate for c in claims] == ["relation"]
    assert "control characters" in problem.detail
    assert "\x1b" not in problem.detail


def test_facts_leave_out_what_is_long_and_what_json_has_not():
    found = facts({"a": float("inf"), "b": "x" * 5000, "c": 1.5}, {"tokenizer.ggml.tokens": 9})
    assert found == {"vocab_size": 9, "c": 1.5}
    assert facts({"general.architecture": 7}, {}) == {"general.architecture": 7}


@pytest.mark.parametrize(("card", "relation"), [
    ("base_model: org/tuned", "quantized"),
    ("base_model: org/tuned\ntags: [merge, mergekit]", "quantized"),
    ("base_model: org/tuned\nbase_model_relation: finetune", "finetune"),
    ("base_model: [org/one, org/tuned]", None),
])  # fmt: skip
def test_a_card_beside_gguf_alone_names_what_was_quantised(tmp_path, card, relation):
    path = save_gguf(tmp_path / "x.gguf")
    (tmp_path / "README.md").write_text(f"---\n{card}\n---\n")
    claims, problems = read_claims(read_checkpoint(path))
    assert problems == ()
    assert ("org/tuned", relation) in [(c.object, c.relation) for c in claims if c.source == "card"]

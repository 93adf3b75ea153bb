"""Merges of models with different tokens, end to end; transformers loads what comes out."""

import json
import shutil

import pytest
import torch
from peft_lab import tokenizer
from safetensors.torch import load_file
from scanned import linked
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from engine.merge import merge, plan, reproduce
from engine.options import Options
from engine.recipe_file import recipe_from_text
from registry.catalog import Catalog
from registry.errors import ShapeMismatch
from registry.scan import scan

FREE = Options(allow_unrelated=True)
"""Nothing on disk says that these are a family."""

N_PLAIN = 270
END = "<|end|>"
RECIPE = """
merge_method: task_arithmetic
base_model: {room}/base
models:
  - model: {room}/chat
  - model: {room}/code
parameters: {{weight: 0.5}}
tokenizer: {tokenizer}
"""


def network(rows, seed, *, tied):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=rows, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, tie_word_embeddings=tied, eos_token_id=270, bos_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config).to(torch.bfloat16)


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def family_of_tokens(request, tmp_path_factory):
    """A base, a chat model with two more tokens, a coder with another two, and a catalog; only for reading."""
    tmp_path = tmp_path_factory.mktemp("tokens")
    base = network(271, 0, tied=request.param)
    for seed, (name, more) in enumerate({
        "base": [], "chat": ["<|user|>", "<|bot|>"], "code": ["<|file|>", "<|user|>", "<|run|>"],
    }.items()):  # fmt: skip
        made = network(271 + len(more), seed, tied=request.param)
        if name != "base":
            with torch.no_grad():
                known = base.state_dict()
                for key, value in made.state_dict().items():
                    value[: len(known[key])] = known[key] + 0.02 * torch.randn(known[key].shape)
        made.save_pretrained(tmp_path / name)
        tokenizer(["<|end|>", *more]).save_pretrained(tmp_path / name)
    scan(Catalog(tmp_path / "catalog.duckdb"), [str(tmp_path)])
    return tmp_path


@pytest.fixture
def room(family_of_tokens, tmp_path):
    """The family and a catalog that knows it, for one test."""
    return linked(family_of_tokens, tmp_path)


def recipe(folder, choice, more=""):
    return recipe_from_text(RECIPE.format(room=folder, tokenizer=choice) + more)


def row(folder, token):
    """The embedding of a token."""
    ids = AutoTokenizer.from_pretrained(folder).get_vocab()
    return load_file(folder / "model.safetensors")["model.embed_tokens.weight"][ids[token]].float()


def test_a_union_has_every_token_and_transformers_loads_it(room):
    folder, catalog = room
    merge(catalog, recipe(folder, "{source: union}"), folder / "out", options=FREE)
    made = AutoModelForCausalLM.from_pretrained(folder / "out")
    spoken = AutoTokenizer.from_pretrained(folder / "out")
    special = ["<|end|>", "<|user|>", "<|bot|>", "<|file|>", "<|run|>"]
    assert spoken.convert_tokens_to_ids(special) == [270, 271, 272, 273, 274]
    assert made.config.vocab_size == len(spoken) == 275
    assert made.get_input_embeddings().weight.shape == (275, 16)
    stored = load_file(folder / "out" / "model.safetensors")
    assert ("lm_head.weight" in stored) is (not made.config.tie_word_embeddings)
    tied = made.get_output_embeddings().weight is made.get_input_embeddings().weight
    assert tied is made.config.tie_word_embeddings
    with torch.no_grad():
        assert made(torch.tensor([[271, 274]])).logits.shape == (1, 2, 275)
    assert spoken("<|user|>the cat<|run|>")["input_ids"][0] == 271
    # Only one model has it, so base and the other stand in with its row: half of no change, half of its own.
    torch.testing.assert_close(row(folder / "out", "<|run|>"), row(folder / "code", "<|run|>"))
    both = (row(folder / "chat", "<|user|>") + row(folder / "code", "<|user|>")) / 2
    torch.testing.assert_close(row(folder / "out", "<|user|>"), both, rtol=2**-7, atol=1e-3)


def test_the_base_s_tokens_alone_drop_the_rest(room):
    folder, catalog = room
    merge(catalog, recipe(folder, "{source: base}"), folder / "out", options=FREE)
    made = AutoModelForCausalLM.from_pretrained(folder / "out")
    assert made.config.vocab_size == len(AutoTokenizer.from_pretrained(folder / "out")) == 271


def test_another_model_s_tokenizer_replaces_the_reference_s(room):
    folder, catalog = room
    original = (folder / "base").resolve()
    (folder / "base").unlink()
    shutil.copytree(original, folder / "base")
    (folder / "base" / "vocab.json").write_text("{}")
    scan(catalog, [str(folder / "base")])
    merge(catalog, recipe(folder, f"{{source: {folder}/code}}"), folder / "out", options=FREE)
    theirs = AutoTokenizer.from_pretrained(folder / "code").get_vocab()
    assert AutoTokenizer.from_pretrained(folder / "out").get_vocab() == theirs
    assert not (folder / "out" / "vocab.json").exists()


def test_the_plan_lists_every_row_that_does_not_stay(room):
    folder, catalog = room
    found = plan(
        catalog, recipe(folder, "{source: union, pad_to_multiple_of: 8}"), allow_unrelated=True
    )
    rows = {(c.model, c.token): (c.id, c.what) for c in found.vocabulary.changes}
    assert rows["base", "<|user|>"] == (271, "averaged")
    assert rows["base", "<|run|>"] == (274, "added")
    assert rows["code", "<|user|>"] == (271, "moved")
    assert rows["chat", "<|file|>"] == (273, "added")
    assert ("chat", "<|user|>") not in rows
    assert found.vocabulary.n_rows == 280
    assert any("275" not in note and "280 rows" in note for note in found.notes)


def test_such_a_merge_is_recorded_and_made_again(room):
    folder, catalog = room
    rules = "{source: union, tokens: {<|bot|>: {source: {kind: zero}, force: true}}}"
    once = merge(catalog, recipe(folder, rules), folder / "out", options=FREE)
    assert row(folder / "out", "<|bot|>").abs().max() == 0
    expected, again = reproduce(catalog, str(folder / "out"), folder / "again")
    assert expected == again.model == once.model
    for name in ("tokenizer.json", "config.json", "tokenizer_config.json"):
        assert (folder / "again" / name).read_bytes() == (folder / "out" / name).read_bytes()


def test_a_chat_template_is_written_where_transformers_finds_it(room):
    folder, catalog = room
    merge(
        catalog,
        recipe(folder, "{source: union}", "chat_template: chatml\n"),
        folder / "out",
        options=FREE,
    )
    spoken = AutoTokenizer.from_pretrained(folder / "out")
    said = spoken.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert said == "<|im_start|>user\nhi<|im_end|>\n"
    assert "chat_template" not in json.loads((folder / "out" / "tokenizer_config.json").read_text())


def test_without_a_choice_it_is_refused_with_the_way_out(room):
    folder, catalog = room
    text = RECIPE.format(room=folder, tokenizer="null").replace("tokenizer: null\n", "")
    with pytest.raises(
        ShapeMismatch, match=r"(?:embed_tokens|lm_head).weight has shape"
    ) as refused:
        merge(catalog, recipe_from_text(text), folder / "out", options=FREE)
    assert "tokenizer_source: base`, or union" in refused.value.hint
    assert not (folder / "out").exists()

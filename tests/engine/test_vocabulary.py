"""Vocabularies brought together by token; transformers judges the tokenizers that are written."""

import json

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from engine.methods import get
from engine.parent import family
from engine.pin import pin
from engine.planner import make_plan
from engine.reader import Reader
from engine.recipe import Part, Recipe
from engine.source import load
from engine.vocabulary import chat_template_text, parse_choice, unify
from registry.errors import BadRecipe, NotMergeable, ShapeMismatch

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
WIDTH = 4
PROSE = ["the cat sat on the mat and the dog sat on the log", "a cat and a dog sat"] * 4
CODE = ["def main(): return print(value)", "for value in values: print(value)"] * 4


def bpe(lines, *, n=300, special=(), plain=()):
    """A byte-level BPE as GPT-2's, trained here, with added tokens."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=n, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(lines, trainer)
    made.add_special_tokens(list(special))
    made.add_tokens(list(plain))
    return made


@pytest.fixture
def model(tmp_path, parent_at):
    """A checkpoint of a tokenizer, an embedding and a head: ``model("chat", bpe(…), padding=3)``."""
    seeds = iter(range(1, 100))

    def make(name, tokenizer, *, padding=0, rows=None, head=True, config=None, dtype=torch.bfloat16,
             klass="PreTrainedTokenizerFast", width=WIDTH):  # fmt: skip
        folder = tmp_path / name
        folder.mkdir()
        if tokenizer is not None:
            PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
            config_file = folder / "tokenizer_config.json"
            document = json.loads(config_file.read_text()) | {"tokenizer_class": klass}
            config_file.write_text(json.dumps(document))
            rows = tokenizer.get_vocab_size() + padding if rows is None else rows
        generator = torch.Generator().manual_seed(next(seeds))
        names = [EMBED, HEAD, "lm_head.bias"] if head else [EMBED]
        tensors = {
            n: torch.randn((rows, width)[: 1 if "bias" in n else 2], generator=generator).to(dtype)
            for n in names
        }
        tensors["model.norm.weight"] = torch.ones(width, dtype=dtype)
        save_file(tensors, folder / "model.safetensors")
        settings = {"tie_word_embeddings": not head, "vocab_size": rows} | (config or {})
        (folder / "config.json").write_text(json.dumps(settings))
        return parent_at(folder)

    return make


def unified(parents, choice, *, base=None):
    names = {parent.name: parent for parent in parents}
    return unify(parents, parse_choice(choice, "tokenizer"), base=base, names=names)


def tensor(parent, name):
    with Reader() as reader:
        return load(reader, parent.tensors[name])


def ids_of(parent):
    return Tokenizer.from_file(str(parent.checkpoint.root / "tokenizer.json")).get_vocab()


def written(found, reference, tmp_path):
    """Write the output's tokenizer as a merge would, and load it as a user would."""
    folder = tmp_path / "out"
    folder.mkdir()
    for name, content in found.files.items():
        (folder / name).write_bytes(content)
    if not found.files:
        folder = reference.checkpoint.root
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def pair(model):
    base = model("base", bpe(PROSE, special=["<|end|>"]))
    chat = model("chat", bpe(PROSE, special=["<|end|>", "<|im_start|>", "<|im_end|>"]))
    return base, chat


def test_a_union_of_special_tokens_loads_and_every_row_is_that_of_its_token(pair, tmp_path):
    base, chat = pair
    found = unified([base, chat], "union", base=base)
    tokenizer = written(found, base, tmp_path)
    assert len(tokenizer) == found.n_rows == len(ids_of(chat))
    assert tokenizer.get_vocab() == ids_of(chat)
    special = {t.content for t in tokenizer.added_tokens_decoder.values() if t.special}
    assert special == {"<|end|>", "<|im_start|>", "<|im_end|>"}
    assert found.parents[1] is chat
    assert torch.equal(tensor(found.parents[0], EMBED)[:-2], tensor(base, EMBED))
    for name in (EMBED, HEAD, "lm_head.bias"):
        made = tensor(found.parents[0], name)
        assert torch.equal(made[-2:], tensor(chat, name)[-2:])
    assert [(c.model, c.token, c.what, c.sources) for c in found.changes] == [
        ("base", "<|im_start|>", "added", ("chat",)),
        ("base", "<|im_end|>", "added", ("chat",)),
    ]


@pytest.mark.parametrize("klass", ["PreTrainedTokenizerFast", "Qwen2Tokenizer", "GPT2Tokenizer"])
def test_a_union_of_vocabularies_gives_every_token_the_row_of_the_model_that_has_it(
    klass, model, tmp_path
):
    special = ["<|endoftext|>", "<|end|>"]
    base = model("base", bpe(PROSE, special=special), padding=3, klass=klass)
    special = ["<|im_start|>", *special]
    code = model("code", bpe(CODE, n=310, special=special, plain=["print("]), klass=klass)
    found = unified([base, code], "union", base=base)
    tokenizer = written(found, base, tmp_path)
    vocab = tokenizer.get_vocab()
    assert len(tokenizer) == len(vocab) == len({*ids_of(base), *ids_of(code)})
    assert set(vocab.values()) == set(range(len(vocab)))
    assert found.n_rows == max(len(vocab), len(tensor(base, EMBED)))
    made = [tensor(parent, EMBED) for parent in found.parents]
    for token, id_ in vocab.items():
        for i, parent in enumerate((base, code)):
            own = parent if token in ids_of(parent) else (code, base)[i]
            assert torch.equal(made[i][id_], tensor(own, EMBED)[ids_of(own)[token]]), token


def test_text_is_split_into_the_tokens_that_a_union_gained(model, tmp_path):
    base = model("base", bpe(PROSE, special=["<|end|>"]))
    code = model("code", bpe(CODE, n=310, special=["<|im_start|>"]))
    tokenizer = written(unified([base, code], "union", base=base), base, tmp_path)
    alone = Tokenizer.from_file(str(code.checkpoint.root / "tokenizer.json"))
    for line in CODE:
        assert tokenizer.decode(tokenizer(line)["input_ids"]) == line
    for word in (" print", " value", " def"):
        assert tokenizer.tokenize(word) == alone.encode(word).tokens
    assert len(tokenizer.tokenize(" print")) == 1
    before = AutoTokenizer.from_pretrained(base.checkpoint.root)
    for line in PROSE:
        assert tokenizer(line)["input_ids"] == before(line)["input_ids"]
    ids = tokenizer("<|im_start|>cat<|end|>")["input_ids"]
    assert tokenizer.convert_ids_to_tokens([ids[0], ids[-1]]) == ["<|im_start|>", "<|end|>"]


def test_rows_that_differ_only_by_padding_are_kept_or_dropped_and_told(model):
    tokens = bpe(PROSE, special=["<|end|>"])
    small, large = model("small", tokens), model("large", tokens, padding=5)
    n = len(ids_of(small))
    found = unified([small, large], "base", base=small)
    assert found.n_rows == n
    assert found.files == {}
    assert found.config == {"vocab_size": n}
    assert found.parents[0] is small
    assert torch.equal(tensor(found.parents[1], EMBED), tensor(large, EMBED)[:n])
    assert [(c.model, c.token, c.id, c.what) for c in found.changes] == [
        ("large", "", n + i, "dropped") for i in range(5)
    ]
    assert any("large" in note and "5 dropped (padding)" in note for note in found.notes)
    found = unified([large, small], "base", base=large)
    assert found.n_rows == n + 5
    assert torch.equal(tensor(found.parents[1], EMBED)[n:], tensor(large, EMBED)[n:])
    assert torch.equal(tensor(found.parents[1], EMBED)[:n], tensor(small, EMBED))


def test_equal_vocabularies_leave_all_models_as_they_are(model):
    tokens = bpe(PROSE, special=["<|end|>"])
    parents = [model(name, tokens, padding=2) for name in ("a", "b", "c")]
    found = unified(parents, "union")
    assert all(new is old for new, old in zip(found.parents, parents, strict=True))
    assert found.changes == ()
    assert found.files == {}


def test_without_a_base_missing_rows_are_the_mean_of_those_that_have_one(model):
    common = bpe(PROSE)
    first = model("first", common)
    others = [model(name, bpe(PROSE, special=["<s>"]), dtype=torch.float32) for name in "bc"]
    found = unified([first, *others], "union")
    row = (tensor(others[0], EMBED)[-1].double() + tensor(others[1], EMBED)[-1].double()) / 2
    assert torch.equal(tensor(found.parents[0], EMBED)[-1], row.float())
    (change,) = found.changes
    assert (change.model, change.what, change.sources) == ("first", "averaged", ("b", "c"))


def test_with_a_base_missing_rows_are_the_bases(model):
    base = model("base", bpe(PROSE, special=["<s>"]))
    bare, other = model("bare", bpe(PROSE)), model("other", bpe(PROSE, special=["<s>"]))
    found = unified([base, bare, other], "base", base=base)
    assert torch.equal(tensor(found.parents[1], EMBED)[-1], tensor(base, EMBED)[-1])


def test_tokens_under_other_ids_move(model):
    one = model("one", bpe(PROSE, special=["<a>", "<b>"]))
    two = model("two", bpe(PROSE, special=["<b>", "<a>"]))
    found = unified([one, two], "base")
    made = tensor(found.parents[1], EMBED)
    assert torch.equal(made[-2:], tensor(two, EMBED)[-2:].flip(0))
    assert [(c.token, c.what) for c in found.changes] == [("<a>", "moved"), ("<b>", "moved")]


def test_a_model_as_source_brings_its_tokenizer_ids_and_generation_config(model, tmp_path):
    base = model("base", bpe(PROSE, special=["<pad>", "<|end|>"]))
    chat = model("chat", bpe(CODE, special=["<|im_end|>", "<|end|>"]))
    ends = ids_of(base)["<|end|>"]
    for name in ("config.json", "generation_config.json"):
        file = base.checkpoint.root / name
        before = json.loads(file.read_text()) if file.exists() else {"temperature": 0.5}
        before |= {"eos_token_id": [ends], "pad_token_id": ids_of(base)["<pad>"]}
        file.write_text(json.dumps(before))
    base.checkpoint.config.update({"eos_token_id": ends, "pad_token_id": ids_of(base)["<pad>"]})
    found = unified([base, chat], "chat", base=base)
    tokenizer = written(found, base, tmp_path)
    assert tokenizer.get_vocab() == ids_of(chat)
    assert found.config["eos_token_id"] == ids_of(chat)["<|end|>"]
    assert found.config["pad_token_id"] is None
    generation = json.loads(found.files["generation_config.json"])
    assert generation == {
        "temperature": 0.5,
        "eos_token_id": [ids_of(chat)["<|end|>"]],
        "pad_token_id": None,
    }
    dropped = {c.token for c in found.changes if c.what == "dropped"}
    assert dropped == set(ids_of(base)) - set(ids_of(chat))


def test_rules_choose_rows_for_models_that_lack_the_token_and_with_force_for_all(pair):
    base, chat = pair
    end = ids_of(chat)["<|end|>"]
    rules = {
        "<|im_start|>": {"source": {"kind": "model_token", "model": "base", "token": "<|end|>"}},
        "<|im_end|>": {"source": {"kind": "zero"}},
        "<|end|>": {"source": "chat", "force": True},
        "Ġcat": {"source": {"kind": "model_token", "model": "chat", "token_id": 7}, "force": True},
        "<new>": {"source": {"kind": "model_token", "model": "chat", "token_id": end}},
    }
    found = unified([base, chat], {"source": "union", "tokens": rules}, base=base)
    mine, theirs = (tensor(parent, EMBED) for parent in found.parents)
    start = ids_of(chat)["<|im_start|>"]
    assert torch.equal(mine[start], tensor(base, EMBED)[end])
    assert torch.equal(theirs[: start + 2][-2:], tensor(chat, EMBED)[start : start + 2])
    assert not mine[start + 1].any()
    assert torch.equal(mine[end], tensor(chat, EMBED)[end])
    for each in (mine, theirs):
        assert torch.equal(each[ids_of(base)["Ġcat"]], tensor(chat, EMBED)[7])
        assert torch.equal(each[-1], tensor(chat, EMBED)[end])
    assert {(c.model, c.token, c.what) for c in found.changes} == {
        ("base", "<|im_start|>", "added"),
        ("base", "<|im_end|>", "zero"),
        ("base", "<|end|>", "replaced"),
        ("base", "Ġcat", "replaced"),
        ("chat", "Ġcat", "replaced"),
        ("base", "<new>", "added"),
        ("chat", "<new>", "added"),
    }


def test_padding_to_a_multiple_is_the_mean_of_the_rows_of_tokens(pair):
    base, chat = pair
    found = unified([base, chat], {"source": "union", "pad_to_multiple_of": 64}, base=base)
    n = len(ids_of(chat))
    assert found.n_rows == -(-n // 64) * 64 > n
    made = tensor(found.parents[1], EMBED)
    mean = tensor(chat, EMBED).double().mean(0).float()
    assert torch.equal(made[:n], tensor(chat, EMBED))
    assert torch.allclose(made[n:], mean.expand_as(made[n:]), rtol=1e-6, atol=0)


def test_a_token_beyond_the_embedding_gets_a_row(model):
    tokens = bpe(PROSE, special=["<pad>"])
    n = tokens.get_vocab_size()
    short, full = model("short", tokens, rows=n - 1), model("full", tokens)
    found = unified([short, full], "base")
    assert found.n_rows == n
    assert torch.equal(tensor(found.parents[0], EMBED)[-1], tensor(full, EMBED)[-1])
    alone = unified([short], "base")
    assert [(c.token, c.what) for c in alone.changes] == [("<pad>", "filled")]
    with pytest.raises(NotMergeable, match="has id"):
        unified([model("sparse", gapped(), rows=10)], "base")


def gapped():
    return Tokenizer(models.WordLevel({"a": 0, "b": 1, "far": 5000}, unk_token="a"))  # noqa: S106


def test_a_tied_model_gets_a_head_from_its_embedding_and_stays_tied_alone(model):
    tied = model("tied", bpe(PROSE), head=False)
    other = model("other", bpe(PROSE, special=["<s>"]), head=False)
    found = unified([tied, other], "union")
    assert HEAD not in found.parents[0].tensors
    assert family(found.parents).stand_ins == ()
    own = model("own", bpe(PROSE, special=["<s>"]))
    found = unified([own, tied], "union")
    tables = family(found.parents).tables
    assert tables[1][HEAD].shape == tables[0][HEAD].shape
    lacking = unified([tied, own], "union")
    assert EMBED in lacking.parents[0].made


def test_the_planner_merges_what_was_unified(pair):
    base, chat = pair
    found = unified([base, chat], "union", base=base)
    recipe = Recipe("linear", (Part("base"), Part("chat")), parameters={"weight": 0.5})
    plan = make_plan(
        pin(recipe, None, [p.id for p in found.parents]), None, found.parents, vocabulary=found
    )
    shapes = {step.name: step.shape for step in plan.steps}
    assert shapes[EMBED] == shapes[HEAD] == (found.n_rows, WIDTH)
    assert get("linear").name == plan.recipe.method.name


def test_a_choice_that_names_no_model_or_no_row_is_refused(pair):
    base, chat = pair
    with pytest.raises(BadRecipe, match="none of the models"):
        unified([base, chat], "stranger")
    with pytest.raises(BadRecipe, match="none of the models"):
        unified([base, chat], {"tokens": {"x": {"source": "stranger"}}})
    with pytest.raises(BadRecipe, match="base lacks a row of token"):
        unified([base, chat], {"tokens": {"<|im_end|>": {"source": "base"}}})
    source = {"kind": "model_token", "model": "chat", "token_id": 99999}
    with pytest.raises(BadRecipe, match="lacks row 99999"):
        unified([base, chat], {"tokens": {"<new>": {"source": source}}})


def test_a_model_without_a_tokenizer_has_that_of_the_reference_if_rows_agree(model, pair):
    base, _ = pair
    mute = model("mute", None, rows=len(ids_of(base)))
    found = unified([base, mute], "union")
    assert found.parents == (base, mute)
    assert any("mute has no tokenizer" in note for note in found.notes)
    with pytest.raises(NotMergeable, match="mute2 has no tokenizer"):
        unified([base, model("mute2", None, rows=12)], "union")
    with pytest.raises(NotMergeable, match="mute has no tokenizer"):
        unified([mute, base], "base")


def test_rows_of_other_lengths_are_refused(model, pair):
    wide = model("wide", bpe(PROSE, special=["<w>"]), width=6)
    with pytest.raises(ShapeMismatch, match="rows must be of one length"):
        unified([pair[0], wide], "union")


def test_a_token_that_is_added_elsewhere_is_found_as_a_whole_after_a_union(model, tmp_path):
    base = model("base", bpe(PROSE))
    chat = model("chat", bpe(PROSE, special=[AddedToken("Ġcat", special=True)]))
    found = unified([base, chat], "union", base=base)
    assert found.changes == ()
    tokenizer = written(found, base, tmp_path)
    assert tokenizer.get_vocab() == ids_of(base)
    assert "Ġcat" in tokenizer.tokenize("xĠcat")


def test_the_chat_template_of_a_recipe_is_text(pair):
    base, chat = pair
    (chat.checkpoint.root / "chat_template.jinja").write_text("{{ messages }}")
    assert chat_template_text("auto", [base, chat]) == "{{ messages }}"
    assert chat_template_text("chat", [base, chat]) == "{{ messages }}"
    assert chat_template_text("./spelled", [base, chat], {"./spelled": chat}) == "{{ messages }}"
    assert chat_template_text("auto", [base]) is None
    with pytest.raises(BadRecipe, match="that has none"):
        chat_template_text("base", [base, chat])

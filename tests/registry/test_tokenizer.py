"""Vocabularies read from every kind of tokenizer file, and hostile ones refused by name."""

import json

import pytest
from tokenizers import AddedToken as Added
from tokenizers import Tokenizer, models

from registry.documents import MAX_JSON_BYTES
from registry.errors import BadDocument, PathEscapes
from registry.tokenizer import MAX_IDS, AddedToken, read_vocabulary

KINDS = {
    "BPE": lambda: models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]),
    "WordPiece": lambda: models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"),  # noqa: S106
    "WordLevel": lambda: models.WordLevel({"a": 0, "b": 1, "c": 2}, unk_token="a"),  # noqa: S106
    "Unigram": lambda: models.Unigram([("<unk>", 0.0), ("a", -1.0), ("ab", -2.5)], 0, False),
}


@pytest.fixture
def folder(tmp_path):
    def make(**files):
        for name, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (tmp_path / name.replace("_DOT_", ".")).write_text(text, encoding="utf-8")
        return tmp_path

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_tokenizer_has_the_ids_that_its_library_gives(kind, tmp_path):
    tokenizer = Tokenizer(KINDS[kind]())
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.add_tokens([Added("new", lstrip=True, normalized=False), "plain"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    found = read_vocabulary(tmp_path)
    assert dict(found.ids) == tokenizer.get_vocab()
    assert list(found.ids.values()) == sorted(found.ids.values())
    assert found.n_ids == len(found.ids) == len(found.tokens) == 6
    assert found.added["<s>"] == AddedToken("<s>", special=True)
    assert found.added["new"] == AddedToken("new", lstrip=True)
    assert found.added["plain"] == AddedToken("plain", normalized=True)


def test_older_files_are_read_with_the_tokens_beside_them(folder):
    found = read_vocabulary(
        folder(
            vocab_DOT_json={"a": 0, "b": 1},
            added_tokens_DOT_json={"<s>": 2, "<t>": 3},
            tokenizer_config_DOT_json={
                "added_tokens_decoder": {"2": {"content": "<s>", "special": True}}
            },
        )
    )
    assert dict(found.ids) == {"a": 0, "b": 1, "<s>": 2, "<t>": 3}
    assert found.added["<s>"].special
    assert not found.added["<t>"].special


def test_a_vocab_txt_has_a_token_in_each_line(folder):
    found = read_vocabulary(folder(vocab_DOT_txt="[PAD]\n##a\nb c\n"))
    assert dict(found.ids) == {"[PAD]": 0, "##a": 1, "b c": 2}


def test_a_folder_without_a_tokenizer_has_no_vocabulary(tmp_path):
    assert read_vocabulary(tmp_path) is None
    assert read_vocabulary(tmp_path / "model.safetensors") is None


def test_sentencepiece_alone_is_refused_with_a_way_out(folder):
    made = folder(tokenizer_DOT_model="binary")
    with pytest.raises(BadDocument, match="sentencepiece") as caught:
        read_vocabulary(made)
    assert "save_pretrained" in caught.value.hint


def fast(vocab, *added):
    return {"model": {"vocab": vocab}, "added_tokens": list(added)}


HOSTILE = {
    "no model": ({"model": 3}, "no model"),
    "no vocab": ({"model": {"vocab": "a"}}, "no model with a vocab"),
    "a list": ([], "no model"),
    "text id": (fast({"a": "0"}), "ids lie in"),
    "true": (fast({"a": True}), "ids lie in"),
    "negative": (fast({"a": -1}), "ids lie in"),
    "absurd": (fast({"a": MAX_IDS}), "ids lie in"),
    "fraction": (fast({"a": 0.5}), "ids lie in"),
    "one id": (fast({"a": 0, "b": 0}), "have one id"),
    "two ids": (fast({"a": 0}, {"content": "a", "id": 1}), "has the ids 0 and 1"),
    "added on another": (fast({"a": 0}, {"content": "b", "id": 0}), "have one id"),
    "no id": (fast({"a": 0}, {"content": "b"}), "ids lie in"),
    "no text": (fast({"a": 0}, {"content": 3, "id": 1}), "must be text"),
    "flag": (fast({}, {"content": "b", "id": 1, "special": "yes"}), "must be true or false"),
    "no entry": (fast({"a": 0}, "b"), "list of objects"),
    "added no list": ({"model": {"vocab": {}}, "added_tokens": {}}, "list of objects"),
    "piece": (fast([["a", 0.0], [3, 0.0]]), "must be text"),
    "bare piece": (fast([["a"]]), "must be text"),
    "score": (fast([["a", "x"]]), "must be text"),
    "piece twice": (fast([["a", 0.0], ["a", 0.0]]), "has the ids 0 and 1"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_tokenizer_is_refused_by_name(case, folder):
    document, message = HOSTILE[case]
    with pytest.raises(BadDocument, match=message):
        read_vocabulary(folder(tokenizer_DOT_json=document))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("added_tokens.json", [], "must be an object"),
        ("added_tokens.json", {"x": -3}, "ids lie in"),
        ("tokenizer_config.json", {"added_tokens_decoder": []}, "must be an object"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"9": "x"}}, "must be an object"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"nine": {"content": "x"}}}, "ids lie"),
        ("vocab.json", ["a"], "object of tokens"),
    ],
)
def test_hostile_files_beside_a_vocabulary_are_refused(name, content, message, folder):
    made = folder(vocab_DOT_json={"a": 0})
    (made / name).write_text(json.dumps(content))
    with pytest.raises(BadDocument, match=message):
        read_vocabulary(made)


def test_a_large_twice_named_or_foreign_file_is_refused(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("a\na\n")
    with pytest.raises(BadDocument, match="has the ids 0 and 1"):
        read_vocabulary(tmp_path)
    path.write_bytes(b"\xff\n")
    with pytest.raises(BadDocument, match="UTF-8"):
        read_vocabulary(tmp_path)
    with path.open("wb") as file:
        file.truncate(MAX_JSON_BYTES + 1)
    with pytest.raises(BadDocument, match="at most"):
        read_vocabulary(tmp_path)
    path.unlink()
    inside = tmp_path / "model"
    inside.mkdir()
    (tmp_path / "elsewhere.json").write_text("{}")
    (inside / "tokenizer.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(PathEscapes):
        read_vocabulary(inside)

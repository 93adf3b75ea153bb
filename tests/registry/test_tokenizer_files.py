"""Tokenizers that get more tokens: the library that reads them is the judge."""

import json

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from registry.errors import BadDocument, NotMergeable, PathEscapes
from registry.tokenizer import AddedToken, read_vocabulary
from registry.tokenizer_files import NewToken, grown_files, tokenizer_files

SPECIAL = AddedToken("<s>", special=True)


@pytest.fixture
def saved(tmp_path):
    """Save a tokenizer and read its vocabulary: ``saved("base", model, special=["<e>"])``."""

    def save(name, model, special=()):
        folder = tmp_path / name
        folder.mkdir()
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.add_special_tokens(list(special))
        tokenizer.save(str(folder / "tokenizer.json"))
        return read_vocabulary(folder)

    return save


def bpe(*merges):
    letters = {letter: i for i, letter in enumerate("abcd")}
    return models.BPE(letters | {"".join(m): 4 + i for i, m in enumerate(merges)}, list(merges))


def grown(vocabulary, new, donors=()):
    files = grown_files(vocabulary, new, donors)
    made = Tokenizer.from_str(files["tokenizer.json"].decode())
    expected = dict(vocabulary.ids) | {token.text: token.id for token in new}
    assert made.get_vocab() == expected
    return made


def test_added_tokens_alone_leave_the_model_as_it_is(saved):
    base = saved("base", bpe(("a", "b")), special=["<e>"])
    made = grown(base, [NewToken("<s>", 6, SPECIAL)])
    before = json.loads(base.file.read_text())
    after = json.loads(made.to_str())
    assert after["model"] == before["model"]
    assert made.encode("ab<s>ab").tokens == ["ab", "<s>", "ab"]
    assert made.decode(made.encode("ab<s>").ids) == "ab"


def test_tokens_of_another_bpe_come_with_their_merges_behind_its_own(saved):
    base = saved("base", bpe(("a", "b")), special=["<e>"])
    other = saved("other", bpe(("b", "c"), ("a", "b"), ("ab", "cd"), ("c", "d"), ("ab", "c")))
    new = [NewToken("bc", 6, None), NewToken("abc", 7, None), NewToken("<s>", 8, SPECIAL)]
    made = grown(base, new, [other])
    assert made.encode("abc").tokens == ["abc"]
    assert made.encode("ab bc<e>").tokens == ["ab", "bc", "<e>"]
    merges = json.loads(made.to_str())["model"]["merges"]
    assert merges == [["a", "b"], ["b", "c"], ["ab", "c"]]


def test_merges_keep_their_spelling(saved):
    base, other = saved("base", bpe(("a", "b"))), saved("other", bpe(("b", "c")))
    document = json.loads(base.file.read_text())
    document["model"]["merges"] = ["a b"]
    base.file.write_text(json.dumps(document))
    files = grown_files(base, [NewToken("bc", 5, None)], [other])
    assert json.loads(files["tokenizer.json"])["model"]["merges"] == ["a b", "b c"]


def test_pieces_of_another_unigram_keep_their_score(saved):
    pieces = [("<unk>", 0.0), ("a", -1.0), ("b", -1.5)]
    base = saved("base", models.Unigram(pieces, 0, False), special=["<e>"])
    other = saved("other", models.Unigram([*pieces, ("ab", -0.5)], 0, False))
    new = [NewToken("ab", 4, None), NewToken("ba", 5, None), NewToken("<s>", 6, SPECIAL)]
    made = grown(base, new, [other])
    assert made.encode("ab").tokens == ["ab"]
    assert made.encode("ba<e>").tokens == ["b", "a", "<e>"]
    assert json.loads(made.to_str())["model"]["vocab"][3:] == [
        ["<e>", 0.0], ["ab", -0.5], ["ba", -11.5], ["<s>", 0.0],
    ]  # fmt: skip


@pytest.mark.parametrize("kind", [models.WordPiece, models.WordLevel])
def test_words_join_the_words(kind, saved):
    base = saved("base", kind({"[U]": 0, "cat": 1}, unk_token="[U]"), special=["<e>"])  # noqa: S106
    made = grown(base, [NewToken("dog", 3, None)])
    assert made.encode("cat dog<e>").tokens == ["cat", "dog", "<e>"]


def test_a_vocabulary_that_leaves_out_ids_grows_behind_its_last(saved):
    base = saved("base", models.WordLevel({"a": 0, "far": 9}, unk_token="a"))  # noqa: S106
    made = grown(base, [NewToken("<s>", 10, SPECIAL)])
    assert made.encode("far<s>").tokens == ["far", "<s>"]
    unigram = saved("unigram", models.Unigram([("<unk>", 0.0)], 0, False))
    with pytest.raises(NotMergeable, match="leaves out ids"):
        grown_files(unigram, [NewToken("<s>", 5, SPECIAL)], [])


def test_a_token_of_the_model_can_become_an_added_one(saved):
    base = saved("base", bpe(("a", "b")))
    made = grown(base, [NewToken("ab", 4, AddedToken("ab", special=True))])
    assert made.encode("cabd").tokens == ["c", "ab", "d"]


def test_the_files_beside_agree_and_older_forms_are_left_out(saved):
    base = saved("base", bpe(("a", "b")), special=["<e>"])
    folder = base.file.parent
    (folder / "tokenizer_config.json").write_text(
        '{"added_tokens_decoder": {"5": {"content": "<e>"}}}'
    )
    (folder / "added_tokens.json").write_text('{"<e>": 5}')
    (folder / "special_tokens_map.json").write_text('{"eos_token": "<e>"}')
    (folder / "vocab.json").write_text("{}")
    (folder / "merges.txt").write_text("")
    files = grown_files(base, [NewToken("<s>", 6, SPECIAL)], [])
    assert set(files) == {
        "tokenizer.json", "tokenizer_config.json", "added_tokens.json", "special_tokens_map.json",
    }  # fmt: skip
    decoder = json.loads(files["tokenizer_config.json"])["added_tokens_decoder"]
    assert decoder["6"] == SPECIAL.as_entry()
    assert json.loads(files["added_tokens.json"]) == {"<e>": 5, "<s>": 6}
    assert files["special_tokens_map.json"] == b'{"eos_token": "<e>"}'
    assert len(tokenizer_files(folder)) == 6


def test_a_tokenizer_of_older_files_cannot_grow(tmp_path):
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    with pytest.raises(NotMergeable, match="can be given more tokens") as caught:
        grown_files(read_vocabulary(tmp_path), [NewToken("b", 1, None)], [])
    assert "save_pretrained" in caught.value.hint


def test_a_malformed_merge_and_a_foreign_file_are_refused(saved, tmp_path):
    base, other = saved("base", bpe(("a", "b"))), saved("other", bpe(("b", "c")))
    document = json.loads(other.file.read_text())
    document["model"]["merges"] = [["b", 3]]
    other.file.write_text(json.dumps(document))
    with pytest.raises(BadDocument, match="is not a merge"):
        grown_files(base, [NewToken("bc", 5, None)], [other])
    (tmp_path / "secret").write_text("x")
    (base.file.parent / "merges.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(PathEscapes):
        tokenizer_files(base.file.parent)

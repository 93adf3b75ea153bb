"""Tokenizer files with more tokens: what a tokenizer's files become when a vocabulary grows.

Tokens that are found as a whole are appended to ``added_tokens``, with their flags. Tokens of another model's own
vocabulary join the vocabulary of the tokenizer's model, under their ids:

* BPE: with those merges of the tokenizers they come from that make one of them, behind the merges there are; a text
  is split as before and then, where they apply, further.
* Unigram: with the score they have there; where they have none, 10 below the lowest, so that any other way comes first.
* WordPiece, WordLevel: they match as any other token; WordPiece takes the longest.

A model's vocabulary cannot grow past the ids of added tokens unless it holds those too: then it lists them as well, as
the vocabularies of many tokenizers do. No text reaches a token that no merge makes; its id and its row are right.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry.documents import MAX_JSON_BYTES, open_file, read_json
from registry.errors import BadDocument, NotMergeable
from registry.file_ref import list_files, resolve_inside
from registry.tokenizer import TOKENIZER, AddedToken, Vocabulary, model_of

CONFIG = "tokenizer_config.json"
ADDED = "added_tokens.json"

_STALE = (
    "vocab.json", "merges.txt", "vocab.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model",
)  # fmt: skip
"""Older forms of what `tokenizer.json` says; left out where that grew."""

_UNLIKELY = 10.0


@dataclass(frozen=True)
class NewToken:
    """A token that a tokenizer gets.

    Attributes:
        text: of the token.
        id: that it gets, or has where it only becomes an added token.
        added: how it is found as a whole; None for a token of the model's vocabulary.
    """

    text: str
    id: int
    added: AddedToken | None


def tokenizer_files(folder: Path) -> dict[str, bytes]:
    """The tokenizer files of a folder by name, as they are.

    Raises:
        PathEscapes: one is a link out of the folder.
        BadDocument: one is too large.
        Unreadable: the operating system refuses.
    """
    return {
        file.path: _bytes(resolve_inside(folder, file.path))
        for file in list_files(folder)
        if file.format == "tokenizer" and not file.dangling
    }


def grown_files(
    vocabulary: Vocabulary, new: Sequence[NewToken], donors: Sequence[Vocabulary]
) -> dict[str, bytes]:
    """The tokenizer files of a vocabulary's folder with more tokens, by name.

    Law: a reader of the files finds the tokens and ids of ``vocabulary``, and those of ``new``.

    Args:
        vocabulary: read from a `tokenizer.json`.
        new: distinct tokens by id; one that the vocabulary has keeps its id and becomes an added token.
        donors: where new tokens of models' vocabularies come from; merges and scores of the first that has any count.

    Raises:
        NotMergeable: the tokenizer has no `tokenizer.json`, or its kind cannot leave out ids as it would have to.
        BadDocument: a malformed file.
    """
    folder = vocabulary.file.parent
    if vocabulary.file.name != TOKENIZER:
        message = f"{vocabulary.file}: only a {TOKENIZER} can be given more tokens"
        hint = (
            f"write one beside it, in Python: transformers.AutoTokenizer.from_pretrained({str(folder)!r})"
            f".save_pretrained({str(folder)!r}); or take tokenizer_source: base"
        )
        raise NotMergeable(message, hint=hint)
    document = read_json(vocabulary.file)
    _grow(document, vocabulary, new, donors)
    files = {k: v for k, v in tokenizer_files(folder).items() if k not in _STALE}
    files[TOKENIZER] = _dump(document)
    found = [token for token in new if token.added]
    if CONFIG in files:
        config = read_json(folder / CONFIG)
        decoder = config.get("added_tokens_decoder") if isinstance(config, dict) else None
        if isinstance(decoder, dict):
            decoder |= {str(t.id): t.added.as_entry() for t in found if t.added}
            files[CONFIG] = _dump(config)
    if ADDED in files:
        added = read_json(folder / ADDED)
        if isinstance(added, dict):
            files[ADDED] = _dump(added | {token.text: token.id for token in found})
    return files


def _grow(
    document: dict[str, Any],
    vocabulary: Vocabulary,
    new: Sequence[NewToken],
    donors: Sequence[Vocabulary],
) -> None:
    """Give the document of a `tokenizer.json` more tokens."""
    model = model_of(document, vocabulary.file)
    fresh = [token for token in new if token.text not in vocabulary.ids]
    past = max(len(model["vocab"]), *(vocabulary.ids[t] + 1 for t in vocabulary.added), 0)
    in_turn = [token.id for token in fresh] == list(range(past, past + len(fresh)))
    if not in_turn or any(token.added is None for token in fresh):
        every = dict(vocabulary.ids) | {token.text: token.id for token in fresh}
        plain = {token.text for token in fresh if token.added is None}
        _fill(model, every, plain, vocabulary.file, donors)
    entries = [
        {"id": token.id, **token.added.as_entry()}
        for token in new
        if token.added and token.text not in vocabulary.added
    ]
    listed = [*(document.get("added_tokens") or []), *entries]
    document["added_tokens"] = sorted(listed, key=lambda entry: int(entry["id"]))


def _fill(
    model: dict[str, Any],
    every: Mapping[str, int],
    plain: set[str],
    file: Path,
    donors: Sequence[Vocabulary],
) -> None:
    """Put all tokens into a model's vocabulary; ``plain`` are the new ones that the model itself is to find."""
    sources = [_model(donor) for donor in donors]
    if isinstance(model["vocab"], dict):
        model["vocab"] |= {
            token: id_ for token, id_ in every.items() if token not in model["vocab"]
        }
        if "merges" in model:
            _add_merges(model, plain, sources)
        return
    pieces = model["vocab"]
    scores: dict[str, float] = {}
    for source in sources:
        if isinstance(source.get("vocab"), list):
            for piece, score in source["vocab"]:
                scores.setdefault(piece, score)
    lowest = min((score for _, score in pieces), default=0.0) - _UNLIKELY
    ordered = sorted((id_, token) for token, id_ in every.items() if id_ >= len(pieces))
    for id_, token in ordered:
        if id_ != len(pieces):
            message = (
                f"{file}: has no token with id {len(pieces)}, but one with id {id_}; "
                "a Unigram vocabulary that leaves out ids cannot grow"
            )
            raise NotMergeable(message, hint="take tokenizer_source: base")
        pieces.append([token, scores.get(token, lowest) if token in plain else 0.0])


def _add_merges(model: dict[str, Any], plain: set[str], sources: list[dict[str, Any]]) -> None:
    """Append the merges that make one of ``plain`` of tokens that are there."""
    own = [_pair(merge) for merge in model.get("merges") or []]
    known = set(own)
    vocab = model["vocab"]
    prefix = model.get("continuing_subword_prefix") or ""
    more = []
    for source in sources:
        for merge in source.get("merges") or []:
            left, right = pair = _pair(merge)
            made = left + right.removeprefix(prefix)
            if made in plain and pair not in known and left in vocab and right in vocab:
                known.add(pair)
                more.append(pair)
    if more:
        as_text = all(isinstance(m, str) for m in model.get("merges") or [[]])
        split = as_text and not any(" " in part for pair in more for part in pair)
        model["merges"] = [" ".join(p) if split else list(p) for p in [*own, *more]]


def _pair(merge: Any) -> tuple[str, str]:
    """The two sides of a merge, of which there are two spellings."""
    sides = merge.split(" ") if isinstance(merge, str) else merge
    if not (isinstance(sides, list) and [type(side) for side in sides] == [str, str]):
        message = f"{merge!r:.200} is not a merge of two tokens"
        raise BadDocument(message)
    return sides[0], sides[1]


def _model(vocabulary: Vocabulary) -> dict[str, Any]:
    """The model a vocabulary was read from; {} for the older forms."""
    if vocabulary.file.name != TOKENIZER:
        return {}
    return model_of(read_json(vocabulary.file), vocabulary.file)


def _bytes(file: Path) -> bytes:
    """All of a file that is no larger than a document may be."""
    with open_file(file) as (descriptor, status):
        if status.st_size > MAX_JSON_BYTES:
            message = f"{file}: has {status.st_size} bytes; at most {MAX_JSON_BYTES} are read"
            raise BadDocument(message)
        with open(descriptor, "rb", closefd=False) as stream:
            return stream.read(MAX_JSON_BYTES)


def _dump(document: Any) -> bytes:
    """A document as JSON."""
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()

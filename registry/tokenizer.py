"""Vocabularies: which token has which id, read from a checkpoint's tokenizer files as hostile.

From `tokenizer.json` (all its model types), else `vocab.json`, else `vocab.txt`, the latter two with
`added_tokens.json` and the `added_tokens_decoder` of `tokenizer_config.json`. An id is a row of the embedding; an
embedding may have more rows than there are ids.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from registry.documents import MAX_JSON_BYTES, open_file, read_json
from registry.errors import BadDocument
from registry.file_ref import resolve_inside

MAX_IDS = 1 << 24
"""Ids lie in [0, MAX_IDS); the largest vocabularies in use have about 260,000."""

TOKENIZER = "tokenizer.json"

_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")


@dataclass(frozen=True)
class AddedToken:
    """A token that is found in a text as a whole, before the tokenizer's model sees the text.

    Attributes:
        text: of the token.
        special: whether it stands for no text, such as the end of a turn.
        single_word, lstrip, rstrip, normalized: how it is found, as in `tokenizer.json`.
    """

    text: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False
    special: bool = False

    def as_entry(self) -> dict[str, Any]:
        """The entry of `tokenizer.json` without the id."""
        return {"content": self.text, **{flag: getattr(self, flag) for flag in _FLAGS}}


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a tokenizer.

    Laws: ids are distinct and lie in [0, `MAX_IDS`); every added token has one.

    Attributes:
        file: it was read from.
        ids: token → id, by id.
        added: token → how it is found, of added tokens, by id.
    """

    file: Path
    ids: Mapping[str, int]
    added: Mapping[str, AddedToken]

    @cached_property
    def tokens(self) -> dict[int, str]:
        """Id → token, by id."""
        return {id_: token for token, id_ in self.ids.items()}

    @cached_property
    def n_ids(self) -> int:
        """The largest id + 1; more than there are tokens where ids are left out."""
        return max(self.ids.values(), default=-1) + 1


def read_vocabulary(folder: Path) -> Vocabulary | None:
    """Read the vocabulary of the tokenizer in a folder; None without a tokenizer.

    Raises:
        BadDocument: a malformed or too large file, two tokens with one id, one token with two ids, an id out of range,
            or a tokenizer that only the sentencepiece library can read.
        PathEscapes: a file that is a link out of the folder.
    """
    if not folder.is_dir():
        return None
    for name, read in (
        (TOKENIZER, _fast),
        ("vocab.json", _vocab_json),
        ("vocab.txt", _vocab_txt),
    ):
        if (folder / name).is_file():
            return read(resolve_inside(folder, name))
    found = next((name for name in _SENTENCEPIECE if (folder / name).is_file()), None)
    if found is None:
        return None
    message = f"{folder / found}: is a sentencepiece model; tokens are read from {TOKENIZER}"
    hint = (
        f"write one beside it, in Python: transformers.AutoTokenizer.from_pretrained({str(folder)!r})"
        f".save_pretrained({str(folder)!r})"
    )
    raise BadDocument(message, hint=hint)


def model_of(document: Any, file: Path) -> dict[str, Any]:
    """The model of a `tokenizer.json`, which has a vocabulary.

    Raises:
        BadDocument: there is none.
    """
    model = document.get("model") if isinstance(document, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict | list):
        message = f"{file}: has no model with a vocab"
        raise BadDocument(message)
    return model


def _fast(file: Path) -> Vocabulary:
    """The vocabulary of a `tokenizer.json`."""
    document = read_json(file)
    listed = model_of(document, file)["vocab"]
    if isinstance(listed, list):  # Unigram: [piece, score], the place is the id
        listed = _distinct(((_piece(entry), i) for i, entry in enumerate(listed)), file)
    entries = document.get("added_tokens")
    entries = [] if entries is None else entries
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        message = f"{file}: added_tokens must be a list of objects"
        raise BadDocument(message)
    return _vocabulary(file, listed.items(), [(entry, entry.get("id")) for entry in entries])


def _vocab_json(file: Path) -> Vocabulary:
    """The vocabulary of a `vocab.json`."""
    listed = read_json(file)
    if not isinstance(listed, dict):
        message = f"{file}: must be an object of tokens and ids"
        raise BadDocument(message)
    return _vocabulary(file, listed.items(), _beside(file.parent))


def _vocab_txt(file: Path) -> Vocabulary:
    """The vocabulary of a `vocab.txt`: a token in a line, whose number is its id."""
    with open_file(file) as (descriptor, status):
        if status.st_size > MAX_JSON_BYTES:
            message = f"{file}: has {status.st_size} bytes; at most {MAX_JSON_BYTES} are read"
            raise BadDocument(message)
        raw = os.pread(descriptor, status.st_size, 0)
    try:
        lines = raw.decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        message = f"{file}: is not UTF-8: {error.reason} at byte {error.start}"
        raise BadDocument(message) from error
    numbered = _distinct(((line.removesuffix("\r"), i) for i, line in enumerate(lines)), file)
    return _vocabulary(file, numbered.items(), _beside(file.parent))


def _beside(folder: Path) -> list[tuple[dict[str, Any], Any]]:
    """Entries and ids of the added tokens that files beside a vocabulary name; the config knows more of them."""
    found: dict[Any, tuple[dict[str, Any], Any]] = {}
    for name in ("added_tokens.json", "tokenizer_config.json"):
        if not (folder / name).is_file():
            continue
        document = read_json(resolve_inside(folder, name))
        listed = document if isinstance(document, dict) else None
        if listed is not None and name == "tokenizer_config.json":
            listed = listed.get("added_tokens_decoder", {})
        if not isinstance(listed, dict):
            message = f"{folder / name}: its added tokens must be an object"
            raise BadDocument(message)
        for key, value in listed.items():
            entry, id_ = ({"content": key}, value) if name == "added_tokens.json" else (value, key)
            if isinstance(id_, str) and id_.isascii() and id_.isdigit() and len(id_) < 10:  # noqa: PLR2004 - digits of `MAX_IDS` and one more
                id_ = int(id_)
            if not isinstance(entry, dict):
                message = f"{folder / name}: added token {key!r:.200} must be an object"
                raise BadDocument(message)
            found[str(id_)] = (entry, id_)
    return list(found.values())


def _piece(entry: Any) -> Any:
    """The token of an entry of a Unigram vocabulary, [token, score]; the entry itself where it is none."""
    whole = isinstance(entry, list) and len(entry) == 2  # noqa: PLR2004 - a pair
    return entry[0] if whole and type(entry[1]) in (int, float) else entry


def _distinct(pairs: Iterable[tuple[Any, int]], file: Path) -> dict[str, int]:
    """Tokens and ids as a mapping, refusing a token that comes twice or is no text."""
    found: dict[str, int] = {}
    for token, id_ in pairs:
        if not isinstance(token, str):
            message = f"{file}: the token with id {id_} is {token!r:.200}; it must be text"
            raise BadDocument(message)
        if found.setdefault(token, id_) != id_:
            message = f"{file}: token {token!r:.200} has the ids {found[token]} and {id_}"
            raise BadDocument(message)
    return found


def _vocabulary(
    file: Path, listed: Iterable[tuple[str, Any]], entries: list[tuple[dict[str, Any], Any]]
) -> Vocabulary:
    """The vocabulary of a model's tokens and of added ones, once all of it can be."""
    added = {}
    named = []
    for entry, id_ in entries:
        one = _added(entry, file)
        added[one.text] = one
        named.append((one.text, id_))
    ids: dict[str, int] = {}
    tokens: dict[int, str] = {}
    for token, id_ in chain(listed, named):
        if type(id_) is not int or not 0 <= id_ < MAX_IDS:
            message = f"{file}: token {token!r:.200} has id {id_!r:.200}; ids lie in [0, {MAX_IDS})"
            raise BadDocument(message)
        if ids.setdefault(token, id_) != id_:
            message = f"{file}: token {token!r:.200} has the ids {ids[token]} and {id_}"
            raise BadDocument(message)
        if tokens.setdefault(id_, token) != token:
            message = f"{file}: tokens {tokens[id_]!r:.200} and {token!r:.200} have one id, {id_}"
            raise BadDocument(message)
    ordered = {tokens[id_]: id_ for id_ in sorted(tokens)}
    return Vocabulary(file, ordered, {token: added[token] for token in ordered if token in added})


def _added(entry: Mapping[str, Any], file: Path) -> AddedToken:
    """One added token; a flag that is missing has the value that the libraries give it."""
    text = entry.get("content")
    if not isinstance(text, str):
        message = f"{file}: an added token is {text!r:.200}; it must be text"
        raise BadDocument(message)
    special = entry.get("special", False)
    flags = {flag: entry.get(flag, flag == "normalized" and not special) for flag in _FLAGS}
    for flag, value in flags.items():
        if not isinstance(value, bool):
            message = f"{file}: {flag} of added token {text!r:.200} is {value!r:.200}; it must be true or false"
            raise BadDocument(message)
    return AddedToken(text, **flags)

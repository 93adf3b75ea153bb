"""Vocabularies brought together: embeddings and heads whose rows are matched by token, never by number.

The output has the ids of one model, the reference, and with ``union`` those tokens of the others that it lacks, behind
them. A model's row of a token is its own where it has the token; else what the recipe's rule says; else the base's;
else the mean of the rows of all models that have it. The base gets rows likewise, so that task vectors exist.

Rows without a token are padding. Those of the reference are kept; a model has its own there where it has one of the same
number. A row that nobody has (``pad_to_multiple_of``, a token that no model has a row of) is the mean of the rows with
a token, since a row of zeros can win against logits that are all negative.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.parent import Parent, family
from engine.row_change import RowChange, summaries, what_happens
from engine.rows import Rows
from engine.source import Source
from engine.tokenizer_choice import (
    BASE,
    UNION,
    TokenizerChoice,
    TokenRule,
    as_document,
    parse_choice,
)
from registry.chat_template import choose_template
from registry.documents import read_json
from registry.errors import BadRecipe, NotMergeable, ShapeMismatch
from registry.file_ref import resolve_inside
from registry.tensor_name import EMBEDDING, has_vocabulary
from registry.tokenizer import AddedToken, Vocabulary, read_vocabulary
from registry.tokenizer_files import NewToken, grown_files, tokenizer_files

__all__ = [
    "RowChange", "Rows", "TokenRule", "TokenizerChoice", "Unified", "as_document", "chat_template_text",
    "parse_choice", "unify",
]  # fmt: skip

_GENERATION = "generation_config.json"

_Picks = tuple[tuple[int, int], ...]
"""(model, row) whose mean a row is; () for zeros."""

_Layout = list[_Picks | None]
"""How the rows of a tensor are made; None for one that nobody has."""


@dataclass(frozen=True)
class Unified:
    """Models whose embeddings and heads have the same rows.

    Attributes:
        parents: in the order given.
        n_rows: of embeddings and heads.
        changes: of all rows that do not stay as and where they are, by model and row.
        notes: the same in words, a line for each model.
        files: tokenizer files of the output, all of them, and its generation config where ids change; {}: those of
            the first parent are right as they are.
        config: entries of `config.json` that follow, as far as it has them.
    """

    parents: tuple[Parent, ...]
    n_rows: int
    changes: tuple[RowChange, ...]
    notes: tuple[str, ...]
    files: Mapping[str, bytes]
    config: Mapping[str, Any]


def unify(
    parents: Sequence[Parent],
    choice: TokenizerChoice,
    *,
    base: Parent | None,
    names: Mapping[str, Parent],
) -> Unified:
    """Bring the vocabularies of some models together.

    A model whose rows all stay is left as it is.

    Args:
        parents: the base first, where there is one.
        choice: of tokens and rows.
        base: one of ``parents``, or None.
        names: recipe text → parent, for the models that ``choice`` names.

    Raises:
        BadRecipe: the choice names no model of these, or a row that the model does not have.
        NotMergeable: no tokenizer, or one that cannot grow.
        ShapeMismatch: rows of different lengths.
        BadDocument, PathEscapes: tokenizer files that are malformed, or elsewhere.
    """
    models = _Models(tuple(parents), choice, base, names)
    made: list[Parent] = []
    changes: list[RowChange] = []
    for i, parent in enumerate(parents):
        stored = parent.tensors
        own = sorted(
            (name for name in stored if has_vocabulary(name)),
            key=lambda name: (not EMBEDDING.search(name), name),
        )
        rows: dict[str, Source] = {}
        for name in own:
            layout = models.layout(i, name)
            if name == own[0] and i == models.same[i]:
                changes += models.changes(i, name, layout)
            if layout != [((models.same[i], row),) for row in range(stored[name].shape[0])]:
                rows[name] = models.tensor(i, name, layout)
        made.append(replace(parent, made={**parent.made, **rows}) if rows else parent)
    reference = parents[models.reference].name
    more = sum(token.text not in models.vocabularies[models.reference].ids for token in models.new)
    headline = (
        f"the tokenizer is that of {reference}, with {more} more tokens; {models.n_rows} rows"
    )
    return Unified(
        tuple(made),
        models.n_rows,
        tuple(changes),
        (headline, *models.notes, *summaries(changes)),
        models.files(),
        {"vocab_size": models.n_rows, **models.renumbered(parents[0].checkpoint.config)},
    )


class _Models:
    """Models with their vocabularies, and the vocabulary they get.

    Attributes:
        tables: of each, tensor by name, a tied embedding also under the head's name.
        same: of each, the number of the first model with its id.
        vocabularies: of each.
        reference, base: numbers of models.
        ids: token → id in the output.
        new: the tokens that the reference's tokenizer gets.
        notes: decisions a person should know of.
    """

    def __init__(
        self,
        parents: tuple[Parent, ...],
        choice: TokenizerChoice,
        base: Parent | None,
        names: Mapping[str, Parent],
    ) -> None:
        self.parents = parents
        self.choice = choice
        self.names = names
        self.notes: list[str] = []
        self._layouts: dict[tuple[int, tuple[int, ...]], _Layout] = {}
        ids = [parent.id for parent in parents]
        self.same = [ids.index(id_) for id_ in ids]
        self.tables = family(parents).tables
        self.base = None if base is None else ids.index(base.id)
        shared = choice.source in (UNION, BASE)
        self.reference = (self.base or 0) if shared else self._number(choice.source)
        self.donors = {t: self._number(r.model) for t, r in choice.tokens.items() if r.model}
        self.vocabularies = self._read()
        self.ids, self.new = self._output()
        n_ids = max(self.ids.values(), default=-1) + 1
        self.n_used = max(self._n_rows(self.reference), n_ids)
        pad = max(1, choice.pad_to_multiple_of)
        self.n_rows = -(-self.n_used // pad) * pad

    def _number(self, text: str) -> int:
        """The number of the model that the recipe calls ``text``."""
        ids = [parent.id for parent in self.parents]
        found = self.names.get(text)
        if found is None or found.id not in ids:
            message = f"tokenizer: {text!r:.200} is none of the models that are merged"
            hint = "they are " + ", ".join(dict.fromkeys(p.name for p in self.parents))
            raise BadRecipe(message, hint=hint)
        return ids.index(found.id)

    def _n_rows(self, i: int) -> int:
        """Rows of a model's embedding."""
        found = (t.shape[0] for name, t in self.tables[i].items() if EMBEDDING.search(name))
        return next(found, 0)

    def _read(self) -> list[Vocabulary]:
        """The vocabulary of each model; one without a tokenizer and of as many rows has the reference's."""
        first = {i: read_vocabulary(self.parents[i].tokenizer_root) for i in sorted(set(self.same))}
        name, own = self.parents[self.reference].name, first[self.reference]
        if own is None:
            message = f"{name} has no tokenizer, whose tokens the recipe's tokenizer needs"
            raise NotMergeable(message, hint="put its tokenizer.json into its folder")
        for i, vocabulary in first.items():
            if vocabulary is None:
                here, there = self._n_rows(i), self._n_rows(self.reference)
                said = f"{self.parents[i].name} has no tokenizer"
                if here != there:
                    message = f"{said}, and {here} rows of tokens where {name} has {there}"
                    raise NotMergeable(message, hint="put its tokenizer.json into its folder")
                self.notes.append(f"{said}; its rows are taken to be the tokens of {name}")
        return [first[i] or own for i in self.same]

    def _output(self) -> tuple[dict[str, int], list[NewToken]]:
        """Ids of the output, and the tokens that the reference's tokenizer gets."""
        own = self.vocabularies[self.reference]
        ids, new = dict(own.ids), {}
        others = sorted(set(self.same) - {self.reference}) if self.choice.source == UNION else []
        n_ids = own.n_ids
        for i in others:
            theirs, n_rows = self.vocabularies[i], self._n_rows(i)
            for token, id_ in theirs.ids.items():
                added = theirs.added.get(token)
                if token not in ids and id_ < n_rows:
                    ids[token], n_ids = n_ids, n_ids + 1
                    new[token] = NewToken(token, ids[token], added)
                elif added and token in own.ids and token not in own.added:
                    new.setdefault(token, NewToken(token, ids[token], added))
        for token in self.choice.tokens:
            if token not in ids:
                ids[token], n_ids = n_ids, n_ids + 1
                new[token] = NewToken(token, ids[token], AddedToken(token, normalized=True))
        beyond = [id_ for id_ in own.ids.values() if id_ >= self._n_rows(self.reference)]
        if beyond:
            where = self.parents[self.reference].name
            if beyond[-1] >= self._n_rows(self.reference) + len(beyond):
                message = (
                    f"{own.file}: token {own.tokens[beyond[-1]]!r:.200} has id {beyond[-1]}; "
                    f"the embedding of {where} has {self._n_rows(self.reference)} rows"
                )
                raise NotMergeable(message, hint="its tokenizer belongs to another model")
            self.notes.append(f"{len(beyond)} tokens of {where} have no row there; they get one")
        return ids, sorted(new.values(), key=lambda token: token.id)

    def layout(self, i: int, name: str) -> _Layout:
        """How the rows of a model's tensor are made."""
        rows = tuple(table[name].shape[0] if name in table else 0 for table in self.tables)
        i = self.same[i]
        if (i, rows) not in self._layouts:
            tokens = {id_: token for token, id_ in self.ids.items()}
            self._layouts[i, rows] = [
                self._token(i, tokens[row], name, rows) if row in tokens else self._padding(i, row, rows)
                for row in range(self.n_rows)
            ]  # fmt: skip
        return self._layouts[i, rows]

    def _padding(self, i: int, row: int, rows: tuple[int, ...]) -> _Picks | None:
        """A row without a token: the model's own of this number, or the reference's; None behind those."""
        for j in (i, self.reference):
            mine = row < rows[j] and row not in self.vocabularies[j].tokens
            if mine and row < self.n_used:
                return ((j, row),)
        return None

    def _token(self, i: int, token: str, name: str, rows: tuple[int, ...]) -> _Picks | None:
        """The row of a token."""
        own = self._own(i, token, rows)
        rule = self.choice.tokens.get(token)
        if own and not (rule and rule.force):
            return own
        if rule and rule.zero:
            return ()
        if rule and rule.model:
            return self._ruled(token, rule, name, rows)
        if self.base is not None and (found := self._own(self.base, token, rows)):
            return found
        having = (self._own(j, token, rows) for j in sorted(set(self.same)))
        return tuple(pick for picks in having if picks for pick in picks) or None

    def _own(self, i: int, token: str, rows: tuple[int, ...]) -> _Picks | None:
        """A model's own row of a token."""
        id_ = self.vocabularies[i].ids.get(token)
        return None if id_ is None or id_ >= rows[i] else ((i, id_),)

    def _ruled(
        self, token: str, rule: TokenRule, name: str, rows: tuple[int, ...]
    ) -> _Picks | None:
        """The row that a rule names."""
        i = self.donors[token]
        if rule.token_id is None:
            asked = token if rule.token is None else rule.token
            found, what = self._own(i, asked, rows), f"a row of token {asked!r:.200}"
        else:
            found = ((i, rule.token_id),) if rule.token_id < rows[i] else None
            what = f"row {rule.token_id} of {rows[i]}"
        if found is None:
            message = f"tokenizer, tokens, {token!r:.200}: {self.parents[i].name} lacks {what} in tensor {name}"
            raise BadRecipe(message)
        return found

    def tensor(self, i: int, name: str, layout: _Layout) -> Rows:
        """A model's tensor with other rows.

        Raises:
            ShapeMismatch: rows of different lengths.
        """
        own = self.tables[i][name]
        i = self.same[i]
        used = {j for picks in layout for j, _ in picks or ()}
        order = [i, *sorted(used - {i})]
        sources = tuple(self.tables[j][name] for j in order)
        for j, source in zip(order, sources, strict=True):
            if source.shape[1:] != own.shape[1:]:
                message = (
                    f"tensor {name} has shape {list(own.shape)} in {self.parents[i].name} "
                    f"and {list(source.shape)} in {self.parents[j].name}; rows must be of one length"
                )
                raise ShapeMismatch(message)
        place = {j: n for n, j in enumerate(order)}
        return Rows(
            name, own.dtype, (self.n_rows, *own.shape[1:]), sources,
            counts=tuple(len(picks or ()) for picks in layout),
            whose=tuple(place[j] for picks in layout for j, _ in picks or ()),
            rows=tuple(row for picks in layout for _, row in picks or ()),
            filled=tuple(row for row, picks in enumerate(layout) if picks is None),
        )  # fmt: skip

    def changes(self, i: int, name: str, layout: _Layout) -> Iterable[RowChange]:
        """What happens to the rows of a model's tensor."""
        n_rows = self.tables[i][name].shape[0]
        theirs = self.vocabularies[i]
        tokens = {id_: token for token, id_ in self.ids.items()}
        who = self.parents[i].name
        kept = set()
        for row, picks in enumerate(layout):
            token = tokens.get(row, "")
            own = theirs.ids.get(token, n_rows) if row in tokens else row
            kept.add(own)
            if picks != ((i, row),) or own != row:
                what = what_happens(picks, had=own < n_rows, stays=picks == ((i, own),))
                yield RowChange(
                    who, token, row, what, tuple(self.parents[j].name for j, _ in picks or ())
                )
        for row in range(n_rows):
            if row not in kept:
                yield RowChange(who, theirs.tokens.get(row, ""), row, "dropped")

    def files(self) -> dict[str, bytes]:
        """Tokenizer files and generation config of the output; {} where the first model's are right."""
        own = self.vocabularies[self.reference]
        others = [self.vocabularies[i] for i in sorted(set(self.same) - {self.reference})]
        if self.new:
            files = grown_files(own, self.new, others)
        elif self.reference == 0:
            return {}
        else:
            files = tokenizer_files(own.file.parent)
        mine = self._generation(0)
        if self.reference and mine:
            files[_GENERATION] = (
                json.dumps(mine | self.renumbered(mine), indent=2) + "\n"
            ).encode()
        return files

    def _generation(self, i: int) -> dict[str, Any]:
        """The generation config of a model; {} without one."""
        root = self.parents[i].checkpoint.root
        if not (root / _GENERATION).is_file():
            return {}
        document = read_json(resolve_inside(root, _GENERATION))
        return document if isinstance(document, dict) else {}

    def renumbered(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The entries of a config of the first model that are ids, by the tokens they stand for; None: it is gone."""
        if self.reference == 0:
            return {}
        tokens = self.vocabularies[0].tokens
        inner = config.get("text_config")
        found = {}
        for key, value in {**(inner if isinstance(inner, dict) else {}), **config}.items():
            many = value if isinstance(value, list) else [value]
            if key.endswith("_token_id") and all(type(each) is int for each in many):
                ids = [self.ids[tokens[each]] for each in many if tokens.get(each) in self.ids]
                found[key] = (ids or None) if isinstance(value, list) else next(iter(ids), None)
        return found


def chat_template_text(
    value: str, parents: Sequence[Parent], names: Mapping[str, Parent] | None = None
) -> str | None:
    """The text of the chat template that a recipe asks for; None where ``auto`` finds none.

    Args:
        value: as `registry.chat_template.choose_template`.
        parents: in order; known by id and name.
        names: recipe text → parent, for further spellings.

    Raises:
        BadRecipe, BadDocument, PathEscapes: as `registry.chat_template.choose_template`.
    """
    known = {text: p for p in parents for text in (p.id, p.name)} | dict(names or {})
    return choose_template(value, {text: p.tokenizer_root for text, p in known.items()})

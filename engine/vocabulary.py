"""Vocabularies brought together: embeddings and heads whose rows are matched by token, never by number.

The output has the ids of one model, the reference, and with ``union`` those tokens of the others that it lacks, behind
them. A model's row of a token is its own where it has the token; else what the recipe's rule says; else the base's;
else the mean of the rows of all models that have it. The base gets rows likewise, so that task vectors exist.

Rows without a token are padding. Those of the reference are kept; a model has its own there where it has one of the same
number. A row that nobody has (``pad_to_multiple_of``, a token that no model has a row of) is the mean of the rows with
a token, since a row of zeros can win against logits that are all negative.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import torch

from engine.parent import Parent, family
from engine.source import Made, Source
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
from registry.errors import BadRecipe, MissingTensor, NotMergeable, ShapeMismatch
from registry.file_ref import resolve_inside
from registry.tensor_name import EMBEDDING, has_vocabulary
from registry.tokenizer import AddedToken, Vocabulary, read_vocabulary
from registry.tokenizer_files import NewToken, grown_files, tokenizer_files

__all__ = [
    "RowChange", "Rows", "TokenRule", "TokenizerChoice", "Unified", "as_document", "chat_template_text",
    "parse_choice", "unify",
]  # fmt: skip

_BLOCK = 1 << 22
"""Elements that are in float64 at once; rows do not depend on it."""

_GENERATION = "generation_config.json"

_Picks = tuple[tuple[int, int], ...]
"""(model, row) whose mean a row is; () for zeros."""

_Layout = list[_Picks | None]
"""How the rows of a tensor are made; None for one that nobody has."""

What = Literal["added", "averaged", "replaced", "zero", "filled", "moved", "dropped"]


@dataclass(frozen=True)
class RowChange:
    """What happens to one row of one model.

    Attributes:
        model: name of the model.
        token: of the row; "" for padding.
        id: number of the row in the output; of a dropped one, in the model.
        what: "moved": it was under another id; "added": the model had none; "averaged": likewise, the mean of several;
            "replaced": a rule forces another; "zero": a rule says so; "filled": nobody has one, the mean of all;
            "dropped": the output has none.
        sources: names of the models it comes from.
    """

    model: str
    token: str
    id: int
    what: What
    sources: tuple[str, ...] = ()


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


@dataclass(frozen=True)
class Rows(Made):
    """A tensor by rows: each is a row of a source, exactly, or the mean of some.

    Attributes:
        counts: how many rows of sources each row is the mean of; 0 for a row of zeros.
        whose: for each of these, the number of the source.
        rows: for each of these, its row there.
        filled: rows of zeros that become the mean of all rows that have sources.
    """

    counts: tuple[int, ...] = field(repr=False)
    whose: tuple[int, ...] = field(repr=False)
    rows: tuple[int, ...] = field(repr=False)
    filled: tuple[int, ...] = field(repr=False)

    def compute(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """Assemble the rows; means are taken in float64, sources in their order."""
        made = torch.zeros(self.shape)
        counts, whose, rows = (
            torch.tensor(x, dtype=torch.int64) for x in (self.counts, self.whose, self.rows)
        )
        target = torch.repeat_interleave(torch.arange(len(counts)), counts)
        for i, part in enumerate(parts):
            pick = (counts[target] == 1) & (whose == i)
            made[target[pick]] = part[rows[pick]]
        n_rows = max(1, _BLOCK // max(1, made[:1].numel()))
        for block in torch.nonzero(counts > 1)[:, 0].split(n_rows):
            sums = torch.zeros((len(block), *self.shape[1:]), dtype=torch.float64)
            place = torch.full((len(counts),), -1)
            place[block] = torch.arange(len(block))
            for i, part in enumerate(parts):
                pick = (place[target] >= 0) & (whose == i)
                sums[place[target[pick]]] += part[rows[pick]].to(torch.float64)
            made[block] = (sums / counts[block].reshape(-1, *[1] * (made.ndim - 1))).float()
        if self.filled:
            made[list(self.filled)] = _mean(made, torch.nonzero(counts)[:, 0], n_rows)
        return made


def _mean(matrix: torch.Tensor, rows: torch.Tensor, n_rows: int) -> torch.Tensor:
    """The mean of some rows, float32; ``n_rows`` are in float64 at once."""
    total = torch.zeros(matrix.shape[1:], dtype=torch.float64)
    for block in rows.split(n_rows):
        total += matrix[block].sum(0, dtype=torch.float64)
    return (total / max(1, len(rows))).float()


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
        MissingTensor: a row is asked of a model that has no such tensor.
        BadDocument, PathEscapes: tokenizer files that are malformed, or elsewhere.
    """
    models = _Models(tuple(parents), choice, base, names)
    n_used = max(models.n_rows(models.reference), models.n_ids)
    pad = max(1, choice.pad_to_multiple_of)
    n_rows = -(-n_used // pad) * pad
    made: list[Parent] = []
    changes: list[RowChange] = []
    for i, parent in enumerate(parents):
        own = [name for name in models.tables[i] if has_vocabulary(name) and name in parent.tensors]
        own.sort(key=lambda name: (not EMBEDDING.search(name), name))
        rows: dict[str, Source] = {}
        for name in own:
            layout = models.layout(i, name, n_used, n_rows)
            if name == own[0] and i == models.same[i]:
                changes += models.changes(i, name, layout)
            if layout != models.identity(i, name):
                rows[name] = models.tensor(i, name, layout)
        made.append(replace(parent, made={**parent.made, **rows}) if rows else parent)
    return Unified(
        tuple(made),
        n_rows,
        tuple(changes),
        (_headline(models, n_rows), *models.notes, *_summaries(changes)),
        models.files(),
        {"vocab_size": n_rows, **models.renumbered(parents[0].checkpoint.config)},
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
        ids = [parent.id for parent in parents]
        self.tables = family(parents).tables
        self.same = [ids.index(id_) for id_ in ids]
        self.base = None if base is None else ids.index(base.id)
        own = choice.source in (UNION, BASE)
        self.reference = (self.base or 0) if own else self.number(choice.source, "source")
        self.vocabularies = self._read()
        self.ids, self.new = self._output()
        self.n_ids = max(self.ids.values(), default=-1) + 1
        self._known: dict[tuple[int, tuple[int, ...]], _Layout] = {}

    def number(self, text: str, where: str) -> int:
        """The number of the model that the recipe calls ``text``."""
        ids = [parent.id for parent in self.parents]
        found = self.names.get(text)
        if found is None or found.id not in ids:
            message = f"tokenizer, {where}: {text!r:.200} is none of the models that are merged"
            raise BadRecipe(
                message, hint="they are " + ", ".join(dict.fromkeys(p.name for p in self.parents))
            )
        return ids.index(found.id)

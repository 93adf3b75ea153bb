"""Rows: tensors that are assembled from rows of others, exactly, or as means of some."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from engine.source import Made

_BLOCK = 1 << 22
"""Elements that are in float64 at once; rows do not depend on it, but for the last digit of filled ones."""


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
        for block in torch.split(torch.nonzero(counts > 1)[:, 0], n_rows):
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
    for block in torch.split(rows, n_rows):
        total += matrix[block].sum(0, dtype=torch.float64)
    return (total / max(1, len(rows))).float()

"""Pruning by rank: which entries of a task vector stay when small, large or random ones go.

Exact counts, and of equal magnitudes the first counts as the largest, so that nothing depends on how a sort
treats equal numbers.
"""

import numpy as np
import torch

from engine.draws import Draws
from engine.magnitude import Per, abs_sum, as_rows
from engine.ops import BLOCK, first
from engine.pick import Drawn

NOTHING = 1e-7
"""Magnitudes that add up to less than this rescale nothing, as in mergekit."""


def ranks(rows: torch.Tensor) -> torch.Tensor:
    """Rank of each entry by magnitude within its row, 0 for the smallest: (rows, columns) int64."""
    order = np.argsort(np.abs(rows.numpy())[:, ::-1], axis=1, kind="stable")
    found = np.empty_like(order)
    np.put_along_axis(found, order, np.arange(rows.shape[1])[None, :], axis=1)
    return torch.from_numpy(found[:, ::-1].copy())


def middle(
    delta: torch.Tensor, density: float, gamma: float, per: Per, *, keep_small: bool
) -> torch.Tensor:
    """A copy of a task vector in which the largest and the smallest entries are 0.

    Of d entries, the int(gamma d) largest go, and of the others all but int(density d).

    Args:
        delta: float32 of any shape.
        density: share of entries that stay.
        gamma: share of the largest that go; with ``density`` above 1 - gamma, fewer go.
        per: in the whole tensor, or in each row.
        keep_small: where int(gamma d) is 0, no large entry goes; otherwise all entries do, as in mergekit.
    """
    rows = as_rows(delta, per)
    size = rows.shape[1]
    if density >= 1 and not keep_small:
        return delta.clone()
    n_kept = min(size, max(int(density * size), 1 if keep_small and size else 0))
    n_top = min(int(gamma * size), size - n_kept)
    if n_kept == 0 or (n_top == 0 and not keep_small):
        return torch.zeros_like(delta)
    scratch, kept = torch.empty(size), torch.empty_like(rows)
    for row, values in zip(kept, rows, strict=True):
        row.copy_(first(values, n_top + n_kept, scratch).keep(values))
        if n_top:
            row.sub_(first(values, n_top, scratch).keep(values))
    return kept.reshape(delta.shape)


def chances(delta: torch.Tensor, density: float, epsilon: float) -> torch.Tensor:
    """Probability that each entry stays, larger for larger ones of its row: the shape of ``delta``, in [0, 1].

    From density - ε for the smallest entry of a row to density + ε for the largest, in even steps; a row of one
    entry has the density. ε is made smaller where that would leave [0, 1].
    """
    rows = as_rows(delta, "row")
    window = min(epsilon, density, 1 - density)
    steps = max(1, rows.shape[1] - 1)
    place = torch.full_like(rows, 0.5)
    if rows.shape[1] > 1:
        n_rows = max(1, BLOCK // rows.shape[1])
        for start in range(0, len(rows), n_rows):
            part = slice(start, start + n_rows)
            place[part] = ranks(rows[part]).float().div_(steps)
    return place.mul_(2 * window).add_(density - window).clamp_(0, 1).reshape(delta.shape)


def realised(delta: torch.Tensor, density: float, model: int, draws: Draws) -> float:
    """Share of a task vector's L1 norm that a random mask of this density leaves; 1 where there is nothing.

    Args:
        delta: the whole tensor, float32.
        density: probability that an entry stays.
        model: whose draws to take.
        draws: random numbers of the whole tensor.
    """
    flat = delta.reshape(-1)
    before, after = abs_sum(flat), abs_sum(Drawn(draws, model, density).keep(flat))
    return after / before if min(before, after) >= NOTHING else 1.0


def drop_by_chance(
    delta: torch.Tensor, stays: torch.Tensor, model: int, draws: Draws, rescale_by: str
) -> torch.Tensor:
    """A copy of a task vector in which each entry stays with its chance; what stays is rescaled.

    Args:
        delta: float32 of any shape.
        stays: chances, of that shape.
        model: whose draws to take.
        draws: random numbers of the whole tensor.
        rescale_by: "keep": entry by entry by its chance; "l1": so that the L1 norm stays; "none".
    """
    kept = draws.uniform(model, delta.shape).lt(stays).mul(delta)
    if rescale_by == "keep":
        return kept.div_(stays.clamp(min=1e-30))
    if rescale_by == "l1":
        before, after = abs_sum(delta), abs_sum(kept)
        return kept.mul_(before / after) if min(before, after) >= NOTHING else kept
    return kept

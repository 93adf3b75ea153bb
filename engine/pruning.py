"""Pruning by rank: which entries of a task vector stay when small, large or random ones go.

Exact counts, and of equal magnitudes the first counts as the largest, so that nothing depends on how a sort
treats equal numbers.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np
import torch

from engine import rank_kernels
from engine.draws import Draws
from engine.kernels import Floats
from engine.magnitude import as_rows, block_sums, row_sums
from engine.method import Look, PerModel, Seen, Tensors, alone, per_model
from engine.ops import BLOCK, first
from engine.pick import Drawn

_NOTHING = 1e-7
"""Magnitudes that add up to less than this rescale nothing, as in mergekit."""


def ranks(rows: torch.Tensor) -> torch.Tensor:
    """Rank of each entry by magnitude within its row, 0 for the smallest: (rows, columns) int64."""
    order = np.argsort(np.abs(rows.numpy())[:, ::-1], axis=1, kind="stable")
    found = np.empty_like(order)
    np.put_along_axis(found, order, np.arange(rows.shape[1])[None, :], axis=1)
    return torch.from_numpy(found[:, ::-1].copy())


def tails(size: int, density: float, gamma: float, *, keep_small: bool) -> tuple[int, int]:
    """How many of the largest entries the middle lies within, and how many of these lie beyond it.

    Of d entries the int(gamma d) largest go, and of the others all but int(density d).

    Args:
        size: entries, d.
        density: share of entries that stay.
        gamma: share of the largest that go; with ``density`` above 1 - gamma, fewer go.
        keep_small: where int(gamma d) is 0, no large entry goes; otherwise all entries do, as in mergekit.
    """
    n_kept = min(size, max(int(density * size), 1 if keep_small and size else 0))
    n_top = min(int(gamma * size), size - n_kept)
    if n_kept == 0 or (n_top == 0 and not keep_small):
        return 0, 0
    return n_top + n_kept, n_top


def middles(rows: torch.Tensor, density: float, gamma: float, *, keep_small: bool) -> torch.Tensor:
    """A copy of rows in which the largest and the smallest entries of each are 0, by `tails`.

    Args:
        rows: (rows, columns) float32.
        density: share of entries that stay.
        gamma: share of the largest that go.
        keep_small: see `tails`.
    """
    size = rows.shape[1]
    n_within, n_beyond = tails(size, density, gamma, keep_small=keep_small)
    if n_within == 0:
        return torch.zeros_like(rows)
    scratch, kept = torch.empty(size), torch.empty_like(rows)
    for row, values in zip(kept, rows, strict=True):
        row.copy_(first(values, n_within, scratch).keep(values))
        if n_beyond:
            row.sub_(first(values, n_beyond, scratch).keep(values))
    return kept


def chances(delta: torch.Tensor, density: float, epsilon: float) -> torch.Tensor:
    """Probability that each entry stays, larger for larger ones of its row: the shape of ``delta``, in [0, 1].

    From density - ε for the smallest entry of a row to density + ε for the largest, in even steps; a row of one
    entry has the density. ε is made smaller where that would leave [0, 1].
    """
    rows = as_rows(delta, "row")
    least, more = span(density, epsilon)
    steps = max(1, rows.shape[1] - 1)
    place = torch.full_like(rows, 0.5)
    if rows.shape[1] > 1:
        n_rows = max(1, BLOCK // rows.shape[1])
        for start in range(0, len(rows), n_rows):
            part = slice(start, start + n_rows)
            place[part] = ranks(rows[part]).float().div_(steps)
    return place.mul_(more).add_(least).clamp_(0, 1).reshape(delta.shape)


def span(density: float, epsilon: float) -> tuple[float, float]:
    """The chance of the smallest entry of a row, and how much better that of the largest is."""
    window = min(epsilon, density, 1 - density)
    return density - window, 2 * window


def l1_shares(look: Look, *, density: PerModel = 0.5) -> list[float]:
    """Share of each task vector's L1 norm that a random mask of its density leaves; 1 where there is nothing.

    Args:
        look: at all slices of a tensor.
        density: probability that an entry stays, for all models or one per model.
    """

    def sums(seen: Seen) -> list[tuple[list[float], list[float]]]:
        densities = per_model(density, len(seen.models))
        flat = [delta.reshape(-1) for delta in seen.models]
        return [
            (block_sums(v), block_sums(Drawn(_drawn(seen), i, p).keep(v)))
            for i, (v, p) in enumerate(zip(flat, densities, strict=True))
        ]

    return [1.0 if whole is None else left / whole for whole, left in _norms(look, sums)]


def l1_factors(look: Look, *, density: PerModel = 0.7, epsilon: PerModel = 0.07) -> list[float]:
    """What each task vector is multiplied with after entries were dropped by `chances`, so that its L1 norm stays.

    Args:
        look: at all slices of a tensor, which are whole rows.
        density: of `chances`, for all models or one per model.
        epsilon: likewise.
    """

    def sums(seen: Seen) -> list[tuple[Floats, Floats]]:
        n = len(seen.models)
        made = []
        for i, each in enumerate(zip(per_model(density, n), per_model(epsilon, n), strict=True)):
            delta = seen.models[i]
            made.append(_both_sums(delta, drop_by_rank(delta, *each, i, _drawn(seen))))
        return made

    return _factors(look, sums)


def _both_sums(delta: torch.Tensor, kept: torch.Tensor) -> tuple[Floats, Floats]:
    """Σ |x| of each row before and after entries were dropped."""
    return row_sums(as_rows(delta, "row")), row_sums(as_rows(kept, "row"))


def _factors(look: Look, sums: Callable[[Seen], list[tuple[Floats, Floats]]]) -> list[float]:
    """What brings the L1 norms of what was left back to what they were."""
    return [1.0 if whole is None else whole / left for whole, left in _norms(look, sums)]


def _drawn(seen: Seen) -> Draws:
    """The random numbers of a slice, which a method that drops by chance always has."""
    if seen.draws is None:
        message = f"tensor {seen.tensor} has no draws"
        raise ValueError(message)
    return seen.draws


def _norms(
    look: Look, sums: Callable[[Seen], Sequence[tuple[Iterable[float], Iterable[float]]]]
) -> list[tuple[float | None, float]]:
    """L1 norms of each model before and after entries were dropped; (None, 1) where either is almost nothing.

    Args:
        look: at all slices of a tensor.
        sums: of a slice, parts of both norms of each model, which are added exactly.
    """
    found = [made for _, made in look(sums)]
    norms = [
        tuple(math.fsum(part for own in column for part in own[i]) for i in (0, 1))
        for column in zip(*found, strict=True)
    ]
    return [(a, b) if min(a, b) >= _NOTHING else (None, 1.0) for a, b in norms]


def drop_by_chance(
    delta: torch.Tensor, stays: torch.Tensor, model: int, draws: Draws, *, by_chance: bool = False
) -> torch.Tensor:
    """A copy of a task vector in which each entry stays with its chance.

    Args:
        delta: float32 of any shape.
        stays: chances, of that shape.
        model: whose draws to take.
        draws: random numbers of the tensor, or the slice.
        by_chance: divide what stays by its chance.
    """
    kept = draws.uniform(model, delta.shape).lt(stays).mul(delta)
    return kept.div_(stays.clamp(min=1e-30)) if by_chance else kept


def drop_by_rank(
    delta: torch.Tensor, density: float, epsilon: float, model: int, draws: Draws,
    *, by_chance: bool = False,
) -> torch.Tensor:  # fmt: skip
    """What `drop_by_chance` makes of a task vector with its `chances`, which a kernel never writes down.

    Args:
        delta: float32 of any shape: whole rows.
        density: of `chances`.
        epsilon: of `chances`.
        model: whose draws to take.
        draws: random numbers of the tensor, or the slice.
        by_chance: divide what stays by its chance.

    Returns:
        A copy, the shape of ``delta``.

    Raises:
        MemoryError: there is none for the ranks of one row.
    """
    rows = as_rows(delta, "row")
    kept = torch.empty_like(rows)
    least, more = span(density, epsilon)
    if rank_kernels.drop_by_rank(
        rows, draws.key(model), draws.start, kept, least=least, more=more, by_chance=by_chance
    ):
        return kept.reshape(delta.shape)
    stays = chances(delta, density, epsilon)
    return drop_by_chance(delta, stays, model, draws, by_chance=by_chance)


def magprune(
    deltas: Tensors,
    draws: Draws,
    *,
    density: PerModel,
    epsilon: PerModel,
    rescale_by: Literal["keep", "l1"] | None,
    factors: Sequence[float] | None,
) -> list[torch.Tensor]:
    """Drop entries of each task vector by their ranks, and rescale those that stay: MagPrune, of DELLA-Merging.

    Args:
        deltas: task vectors, (n, *shape) float32: whole rows.
        draws: random numbers of this slice.
        density: of `chances`, for all models or one per model.
        epsilon: likewise.
        rescale_by: each by its own chance, or all so that the tensor's L1 norm stays; None: not at all.
        factors: those that keep the norms, from `l1_factors`; None: the tensors are whole.
    """
    n = len(deltas)
    each = zip(per_model(density, n), per_model(epsilon, n), strict=True)
    kept = [
        drop_by_rank(deltas[i], p, e, i, draws, by_chance=rescale_by == "keep")
        for i, (p, e) in enumerate(each)
    ]
    if rescale_by == "l1":
        if factors is None:
            pairs = [_both_sums(deltas[i], part) for i, part in enumerate(kept)]
            factors = _factors(alone(Seen("", deltas)), lambda _: pairs)
        for part, factor in zip(kept, factors, strict=True):
            part.mul_(factor)
    return kept

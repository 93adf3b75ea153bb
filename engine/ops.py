"""The arithmetic that merge methods share: sums in a fixed order, the largest entries, elected signs.

Nothing here depends on the number of threads, and little on the machine. Sums over models go in the recipe's
order, in float32, and multiply and add in separate steps, since a fused step rounds differently and torch may use
it for some elements only. Sums over elements are float64 and add the same pairs in the same order everywhere.
Work goes block by block: temporaries stay in the processor's cache, and none is as large as a tensor.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch

from engine import kernels
from engine.kernels import Part, Stored
from engine.method import Tensors
from engine.pick import Drawn, Largest, Middle, Pick
from engine.slices import closing_of, done, is_done, parts_of, result_of
from registry.errors import BadParameter

BLOCK = 1 << 17
"""Elements that a processor works on at once; element-wise results do not depend on it."""

TINY = 1e-8
"""A sum of weights closer to 0 than this is 0."""

Sign = Literal["sum", "count"]
"""What votes in a sign election: values, or only their signs."""


def blocks(values: torch.Tensor) -> Iterator[slice]:
    """Cut a flat tensor into slices of `BLOCK` elements, in order; one that an accelerator holds stays in one piece."""
    n = len(values)
    step = BLOCK if values.is_cpu else max(1, n)
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def shares(weights: Sequence[float]) -> list[float]:
    """Weights divided by their sum.

    Raises:
        BadParameter: if the sum is 0.
    """
    total = sum(weights)
    if abs(total) < TINY:
        message = (
            f"the weights {', '.join(f'{w:g}' for w in weights)} sum to 0: no mean can be taken"
        )
        raise BadParameter(message, hint="change the weights, or set normalize: false")
    return [w / total for w in weights]


def weighted_sum(
    tensors: Tensors, coefficients: Sequence[float], picks: Sequence[Pick] | None = None
) -> torch.Tensor:
    """Σ c_i x_i in the order given, of the entries that are picked: (*shape) float32."""
    picks = picks or [None] * len(tensors)
    stored, base = parts_of(tensors)
    made = result_of(tensors)
    if kernels.ready(stored):
        parts = [_part(*each) for each in zip(stored, coefficients, picks, strict=True)]
        bad = kernels.weighted_sum(parts, base, made, closing=closing_of(tensors))
        if is_done(tensors, bad):
            return done(tensors, made)
    flats = [tensor.reshape(-1) for tensor in tensors]
    total = torch.empty(made.shape, device=flats[0].device)
    flat = total.view(-1)
    for block in blocks(flat):
        terms = _terms(flats, coefficients, picks, block)
        flat[block] = next(terms)
        for term in terms:
            flat[block] += term
    return total


def weighted_columns(
    tensors: Tensors, scales: torch.Tensor, *, by_row: bool = False
) -> torch.Tensor:
    """Σ x_i in the order given, each column of each model times its scale, or each row: (rows, …) float32.

    Args:
        tensors: the models' tensors, (n, rows, …) float32; columns are entries of a row; a vector is one row.
        scales: (n, columns), or (n, rows) if ``by_row``, float32.
        by_row: scale rows.
    """
    stored, base = parts_of(tensors)
    made = result_of(tensors)
    if kernels.ready(stored) and made.numel():
        parts = [Part(s, 1.0, scales=v) for s, v in zip(stored, scales.contiguous(), strict=True)]
        columns = made[0].numel() if made.dim() > 1 else made.numel()
        bad = kernels.weighted_sum(
            parts, base, made, columns=columns, by_row=by_row, closing=closing_of(tensors)
        )
        if is_done(tensors, bad):
            return done(tensors, made)
    matrices = [_matrix(tensor) for tensor in tensors]
    total = torch.empty(made.shape, device=matrices[0].device)
    flat, scales = _matrix(total), scales.to(total.device)
    step = max(1, BLOCK // max(1, flat.shape[1]))
    for top in range(0, len(flat), step):
        rows = slice(top, top + step)
        for i, (matrix, scale) in enumerate(zip(matrices, scales, strict=True)):
            part = matrix[rows] * (scale[rows, None] if by_row else scale)
            flat[rows] = part if i == 0 else flat[rows] + part
    return total


def _matrix(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor as a matrix of its slices along dim 0; a vector is one row."""
    return tensor.flatten(1) if tensor.dim() > 1 else tensor.reshape(1, -1)


def agreement(
    tensors: Tensors,
    weights: Sequence[float],
    *,
    scales: Sequence[float] | None = None,
    picks: Sequence[Pick] | None = None,
    sign: "Sign" = "sum",
    elect: Literal["parts", "values"] = "parts",
    winner: int = 1,
    normalize: bool = True,
    lambda_: float = 1.0,
) -> torch.Tensor:
    """Elect a sign for every entry and average what agrees with it, as TIES-Merging does: (*shape) float32.

    Args:
        tensors: the models' task vectors, (n, *shape) float32.
        weights: w_i, of which those that take part in an entry are summed to its divisor; a sum of 0 counts as 1.
        scales: factors of the task vectors; None: the weights.
        picks: which entries count.
        sign: what votes.
        elect: from the scaled entries, or as they are.
        winner: sign of entries where neither sign wins: -1, 1, or 0 to drop them.
        normalize: divide by the weights of those that agree; without it they are summed.
        lambda_: factor of the result.
    """
    scales, picks = scales or weights, picks or [None] * len(tensors)
    stored, base = parts_of(tensors)
    made = result_of(tensors)
    if kernels.ready(stored):
        parts = [_part(*each) for each in zip(stored, scales, picks, strict=True)]
        bad = kernels.agreement(
            parts, base, made, weights=weights, by_count=sign == "count", of_values=elect == "values",
            winner=winner, normalize=normalize, lambda_=lambda_, closing=closing_of(tensors),
        )  # fmt: skip
        if is_done(tensors, bad):
            return done(tensors, made)
    flats = [tensor.reshape(-1) for tensor in tensors]
    total = torch.empty(made.shape, device=flats[0].device)
    flat = total.view(-1)
    for block in blocks(flat):
        terms = list(_terms(flats, scales, picks, block))
        voters = terms
        if elect == "values":
            voters = list(_terms(flats, [1.0] * len(flats), picks, block))
        signs = settle_ties(elect_signs(voters, sign), winner)
        mean = agreeing_mean(terms, signs, weights, normalize=normalize)
        torch.mul(mean, lambda_, out=flat[block])
    return total


def votes(tensors: Tensors, scales: Sequence[float], picks: Sequence[Pick], sign: "Sign") -> int:
    """Sum of the signs that the models elect, over all entries."""
    stored, base = parts_of(tensors)
    if kernels.ready(stored):
        parts = [_part(*each) for each in zip(stored, scales, picks, strict=True)]
        found, bad = kernels.votes(parts, base, by_count=sign == "count")
        if is_done(tensors, bad):
            return found
    flats = [tensor.reshape(-1) for tensor in tensors]
    return sum(
        int(elect_signs(list(_terms(flats, scales, picks, block)), sign).sum())
        for block in blocks(flats[0])
    )  # exact: fewer than 2²⁴ terms of size 1


def _terms(
    flats: Tensors, scales: Sequence[float], picks: Sequence[Pick], block: slice
) -> Iterator[torch.Tensor]:
    """A block of each model, picked and scaled."""
    for values, scale, pick in zip(flats, scales, picks, strict=True):
        part = values[block] if pick is None else pick.keep(values[block], block.start)
        yield part * scale


def _part(stored: Stored, scale: float, pick: Pick) -> Part:
    """One model as kernels take it."""
    if isinstance(pick, Largest):
        return Part(stored, scale, largest=(pick.threshold, pick.ties_end))
    if isinstance(pick, Middle):
        within, beyond = ((p.threshold, p.ties_end) for p in (pick.within, pick.beyond))
        return Part(stored, scale, largest=within, beyond=beyond)
    if isinstance(pick, Drawn):
        below = math.ceil(float(np.float32(pick.density)) * (1 << 24))
        return Part(stored, scale, drawn=(pick.draws.key(pick.model), pick.draws.start, below))
    return Part(stored, scale)


def fold(values: torch.Tensor) -> torch.Tensor:
    """Sum over the first axis by adding its last half to its first half until one entry is left; ``values`` is lost."""
    while len(values) > 1:
        half = len(values) // 2
        values[:half] += values[-half:]
        values = values[: len(values) - half]
    return values.sum(0)  # of one entry, or of none


def largest(values: torch.Tensor, density: float, scratch: torch.Tensor) -> Largest:
    """Find the int(density · d) largest entries by magnitude, at least one; of equal ones the first.

    Args:
        values: (d,) float32.
        density: in (0, 1].
        scratch: (d,) float32, overwritten.
    """
    return first(values, max(1, int(density * len(values))), scratch)


def first(values: torch.Tensor, k: int, scratch: torch.Tensor) -> Largest:
    """Find the k largest entries by magnitude; of equal ones the first.

    Args:
        values: (d,) float32.
        k: at least 1.
        scratch: (d,) float32, overwritten.
    """
    if k >= len(values):
        return Largest(0.0, len(values))
    # numpy partitions tensors full of zeros some forty times slower where the zeros come first
    negative = torch.abs(values, out=scratch).neg_().numpy()
    negative.partition(k - 1)
    threshold = -float(negative[k - 1])
    if threshold == 0:
        return Largest(0.0, len(values))
    ties = np.count_nonzero(negative[k:] == -threshold)  # that are not kept
    for block in reversed(list(blocks(values))):
        if not ties:
            break
        places = (values[block].abs() == threshold).nonzero()
        if len(places) >= ties:
            return Largest(threshold, block.start + int(places[-ties]))
        ties -= len(places)
    return Largest(threshold, len(values))


def elect_signs(parts: Tensors, by: Sign) -> torch.Tensor:
    """The sign of the sum over models of each entry, or of the sum of its signs: -1, 0 or 1 as float32."""
    total = torch.zeros_like(parts[0])
    for part in parts:
        total += part if by == "sum" else part.sign()
    return total.sign_()


def settle_ties(signs: torch.Tensor, sign: int) -> torch.Tensor:
    """Give entries without an elected sign this ``sign`` (-1, 0 or 1), in place."""
    return signs.mul_(2).add_(sign).sign_()


def agreeing_mean(
    parts: Tensors, signs: torch.Tensor, weights: Sequence[float], *, normalize: bool
) -> torch.Tensor:
    """Sum the entries that have the elected sign; the disjoint mean of TIES-Merging if ``normalize``.

    Args:
        parts: weighted task vectors w_i δ_i.
        signs: elected signs; where 0, so is the result.
        weights: w_i, of which those that take part in an entry are summed to its divisor; a sum of 0 counts as 1.
        normalize: divide.
    """
    total, divisor = torch.zeros_like(signs), torch.zeros_like(signs)
    for part, weight in zip(parts, weights, strict=True):
        agreeing = (part * signs).relu_()
        total += agreeing
        if normalize:
            divisor += agreeing.sign_().mul_(weight)
    if normalize:
        divisor += divisor.abs().lt_(TINY)
        total /= divisor
    return total.mul_(signs)

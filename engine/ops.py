"""The arithmetic that merge methods share: sums in a fixed order, the largest entries, elected signs.

Nothing here depends on the number of threads, and little on the machine. Sums over models go in the recipe's
order, in float32, and multiply and add in separate steps, since a fused step rounds differently and torch may use
it for some elements only. Sums over elements are float64 and add the same pairs in the same order everywhere.
Work goes block by block: temporaries stay in the processor's cache, and none is as large as a tensor.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.nn.functional import hardshrink

from engine.draws import Draws
from engine.method import Tensors
from registry.errors import BadParameter

BLOCK = 1 << 17
"""Elements that are worked on at once; element-wise results do not depend on it."""

_TILE = (64, 1024)
"""Rows and columns that sums over columns take at once; the rows decide the order of summation."""

_LANES = 1 << 10
"""Partial sums of a dot product."""

TINY = 1e-8
"""A sum of weights closer to 0 than this is 0."""

Sign = Literal["sum", "count"]
"""What votes in a sign election: values, or only their signs."""


def blocks(n: int) -> Iterator[slice]:
    """Cut [0, n) into slices of `BLOCK` elements, in order."""
    return (slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK))


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


def weighted_sum(tensors: Tensors, coefficients: Sequence[float]) -> torch.Tensor:
    """Σ c_i x_i in the order given: (*shape) float32."""
    flat = [tensor.reshape(-1) for tensor in tensors]
    total = torch.empty_like(flat[0])
    for block in blocks(len(total)):
        part = torch.mul(flat[0][block], coefficients[0], out=total[block])
        for values, coefficient in zip(flat[1:], coefficients[1:], strict=True):
            part += values[block] * coefficient
    return total.reshape(tensors[0].shape)


def fold(values: torch.Tensor) -> torch.Tensor:
    """Sum over the first axis by adding its last half to its first half until one entry is left; ``values`` is lost."""
    while len(values) > 1:
        half = len(values) // 2
        values[:half] += values[-half:]
        values = values[: len(values) - half]
    return values.sum(0)  # of one entry, or of none


def column_dots(matrices: Tensors, pairs: Sequence[tuple[int, int]]) -> list[torch.Tensor]:
    """Dot products of columns: for each pair (i, j), Σ_rows m_i ⊙ m_j as (columns,) float64.

    Law: a column's result depends on that column alone.

    Args:
        matrices: (rows, columns) float32 of one shape; a product of two entries is exact in float64.
        pairs: which matrices to multiply.
    """
    rows, columns = _TILE
    totals = [torch.zeros(matrices[0].shape[1], dtype=torch.float64) for _ in pairs]
    for left in range(0, matrices[0].shape[1], columns):
        strips = [matrix[:, left : left + columns] for matrix in matrices]
        lanes = [torch.zeros_like(strips[0][:rows], dtype=torch.float64) for _ in pairs]
        for top in range(0, len(strips[0]), rows):
            tiles = [strip[top : top + rows].double() for strip in strips]
            for lane, (i, j) in zip(lanes, pairs, strict=True):
                lane[: len(tiles[0])].addcmul_(tiles[i], tiles[j])
        for total, lane in zip(totals, lanes, strict=True):
            total[left : left + columns] = fold(lane)
    return totals


def dots(tensors: Tensors, pairs: Sequence[tuple[int, int]]) -> list[float]:
    """Dot products of whole tensors: for each pair (i, j), Σ x_i ⊙ x_j."""
    flat = [tensor.reshape(-1) for tensor in tensors]
    even = len(flat[0]) - len(flat[0]) % _LANES
    body = column_dots([values[:even].view(-1, _LANES) for values in flat], pairs)
    rest = column_dots([values[even:].view(1, -1) for values in flat], pairs)
    return [float(fold(b) + fold(r)) for b, r in zip(body, rest, strict=True)]


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest entries of a flat tensor, by magnitude: exactly as many as were asked for.

    Attributes:
        threshold: the magnitude of the smallest of them.
        ties_end: entries of exactly that magnitude belong to them before this flat index, and not from it on.
    """

    threshold: float
    ties_end: int

    def keep(self, values: torch.Tensor, start: int = 0) -> torch.Tensor:
        """A copy of ``values``, the entries from flat index ``start`` on, with 0 where an entry is not kept."""
        below = float(np.nextafter(np.float32(self.threshold), np.float32(0)))
        split = min(max(self.ties_end - start, 0), len(values))
        if split == len(values):
            return hardshrink(values, below)
        kept = hardshrink(values, self.threshold)
        kept[:split] = hardshrink(values[:split], below)
        return kept


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
    for block in reversed(list(blocks(len(values)))):
        if not ties:
            break
        places = (values[block].abs() == threshold).nonzero()
        if len(places) >= ties:
            return Largest(threshold, block.start + int(places[-ties]))
        ties -= len(places)
    return Largest(threshold, len(values))


def drop(values: torch.Tensor, model: int, density: float, draws: Draws) -> torch.Tensor:
    """A copy of ``values`` in which each entry stays with probability ``density`` and is 0 otherwise."""
    return draws.uniform(model, values.shape).lt_(density).mul_(values)


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

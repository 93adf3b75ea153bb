"""Traces: what a merge that kept some entries of each parent's change shows of how it chose them.

Where only one parent's entry stayed, the child has that change times a scale; where none stayed, the base's entry. By
their sizes TIES and Breadcrumbs keep entries, DARE keeps them by chance: one threshold tells the first from what was
dropped, and nothing tells the second. Where all parents' entries stayed, it shows whether they were added or averaged.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.descent.bucket import rounding_energy
from engine.descent.pile import Floats, Singles
from engine.descent.slab import Shared
from engine.reader import Reader

_CLEAR = 6.0  # halves of an ulp that a scaled change exceeds, to count
_FITS = 1.5  # halves of an ulp
_SLACK = 0.02  # of a change, that its scale may be off
_FEW = 40  # entries of a sort, at least
_OUTER = 0.7  # how well an upper limit must tell the largest entries that were dropped from those that stayed
_FEW_OUTER = 3
_MOST = 64  # tensors that are looked at


@dataclass(frozen=True)
class Trace:
    """How a merge chose entries, by the first entries of some matrices.

    Attributes:
        scales: by what each parent's change is multiplied where it alone stayed: (k,).
        by_size: how well one threshold of size tells what stayed from what was dropped, the median over matrices and
            parents: 1 for all, 0 for not at all.
        densities: share of each parent's entries that its thresholds keep, over all matrices that have one: (k,).
        outer: share of the largest entries that were dropped although smaller ones stayed; 0: none.
        chances: share of each parent's entries that stayed where no other's did: (k,).
        shares: weights of which the child's change is the sum where all parents' entries stayed and agree: (k,); None
            where those are too few.
    """

    scales: Floats
    by_size: float
    densities: Floats
    outer: float
    chances: Floats
    shares: Floats | None


@dataclass
class _Found:
    """What is added up over matrices.

    Attributes:
        products, squares: of the child's and each parent's change, and of the latter, where one parent's stayed: (k,).
        n_taken, n_gone: entries of each parent that stayed alone, and that were dropped with all others', of those in
            which all sums of changes can be told: (k,).
        told: how well a threshold tells them apart, for each matrix and parent.
        n_kept, n_held: entries of each parent between its limits, and of the matrices that have those: (k,).
        outer: share of dropped entries above all that stayed, for each matrix and parent.
        left, right: normal equations of all parents' changes where they stayed together: (k, k), (k,).
        n_both: entries of those.
    """

    products: Floats
    squares: Floats
    n_taken: Floats
    n_gone: Floats
    left: Floats
    right: Floats
    n_kept: Floats
    n_held: Floats
    n_both: int = 0
    told: list[float] = field(default_factory=list)
    outer: list[float] = field(default_factory=list)


def trace(reader: Reader, tensors: Sequence[Shared], scales: Sequence[float]) -> Trace | None:
    """Look at the first entries of some matrices; None where too few entries stayed alone or were dropped.

    Args:
        reader: of the files.
        tensors: of the child, the base and the parents.
        scales: about, of each parent.
    """
    k, about = len(scales), np.asarray(scales, np.float64)
    products, squares, taken, gone, right, kept, held = np.zeros((7, k))
    found = _Found(products, squares, taken, gone, np.zeros((k, k)), right, kept, held)
    for tensor, part in _parts(reader, tensors):
        _add(found, part, tensor.refs[0].dtype, about)
    if (found.n_taken < _FEW).any() or not found.n_held.all():
        return None
    shares: Floats | None = None
    if found.n_both >= _FEW * k:
        shares = np.asarray(np.linalg.lstsq(found.left, found.right, rcond=None)[0], np.float64)
    return Trace(
        found.products / found.squares, float(np.median(found.told)), found.n_kept / found.n_held,
        float(np.median(found.outer)), found.n_taken / (found.n_taken + found.n_gone), shares,
    )  # fmt: skip


def _parts(reader: Reader, tensors: Sequence[Shared]) -> Iterator[tuple[Shared, Singles]]:
    """The first entries of some matrices, evenly spread: (2 + k, n) float32."""
    matrices = [tensor for tensor in tensors if not tensor.is_vector]
    for tensor in matrices[:: -(-len(matrices) // _MOST) or 1]:
        yield tensor, next(tensor.slabs(reader))


def _add(found: _Found, part: Singles, dtype: str, scales: Floats) -> None:
    """Add what one matrix shows."""
    half = np.sqrt(3 * rounding_energy(part[0], dtype))
    base = part[1].astype(np.float64)
    own, changes = part[0] - base, part[2:] - base
    scaled = scales[:, None] * changes
    clear = np.abs(scaled) > _CLEAR * half
    room = _FITS * half + _SLACK * np.abs(scaled)
    fits, gone = np.abs(own - scaled) <= room, own == 0
    apart = _are_apart(scaled, room.max(0))
    thresholds = []
    for i, change in enumerate(changes):
        taken = fits[i] & clear[i] & (fits.sum(0) == 1) & ~gone
        dropped = gone & clear[i]
        found.products[i] += own[taken] @ change[taken]
        found.squares[i] += change[taken] @ change[taken]
        found.n_taken[i] += (taken & apart).sum()
        found.n_gone[i] += (dropped & apart).sum()
        size = np.abs(change)
        if taken.sum() < _FEW or dropped.sum() < _FEW:
            continue
        lower, upper, told = _limits(size[taken], size[dropped])
        found.told.append(told)
        found.outer.append(float((size > upper).mean()))
        thresholds.append(lower)
        found.n_kept[i] += ((size >= lower) & (size <= upper)).sum()
        found.n_held[i] += len(size)
    if len(thresholds) == len(changes):
        _add_both(found, own, changes, ~fits.any(0) & ~gone, np.array(thresholds))


def _are_apart(scaled: Floats, room: Floats) -> NDArray[np.bool_]:
    """In which entries no two sums of some of the changes, or of none, are so near that they cannot be told: (n,)."""
    sums = np.zeros((1, scaled.shape[1]))
    for change in scaled:
        sums = np.concatenate([sums, sums + change])
    return np.asarray(np.diff(np.sort(sums, axis=0), axis=0).min(0) > 2 * room)


def _limits(taken: Floats, dropped: Floats) -> tuple[float, float, float]:
    """The sizes between which entries stayed, and how well the lower tells what stayed from what was dropped.

    Breadcrumbs leaves out the largest, too: where no upper limit tells those, it is infinite.
    """
    middle = np.median(taken)
    upper, told = _divide(-taken[taken > middle], -dropped[dropped > middle])
    is_outer = told >= _OUTER and int((dropped > -upper).sum()) >= _FEW_OUTER
    inside = dropped <= -upper if is_outer else np.ones(len(dropped), bool)
    lower, told = _divide(taken, dropped[inside])
    return lower, -upper if is_outer else np.inf, told


def _divide(above: Floats, below: Floats) -> tuple[float, float]:
    """The least number of one sort that best divides it from another, which lies below, and how well it does.

    Returns:
        The number, and the largest difference over all of the share of ``below`` under it and that of ``above``.
    """
    if not len(below) or not len(above):
        return float(above.min(initial=np.inf)), 0.0
    numbers = np.concatenate([above, below])
    order = np.argsort(numbers, kind="stable")
    is_above = (np.arange(len(numbers)) < len(above))[order]
    gain = np.cumsum(~is_above) / len(below) - np.cumsum(is_above) / len(above)
    best = int(np.argmax(gain))
    return float(numbers[order[min(best + 1, len(numbers) - 1)]]), float(gain[best])


def _add_both(
    found: _Found, own: Floats, changes: Floats, neither: NDArray[np.bool_], limits: Floats
) -> None:
    """Add the entries in which all parents' changes are large and of one sign."""
    signs = np.sign(changes)
    large = (np.abs(changes) >= limits[:, None]).all(0) & (signs == signs[0]).all(0) & neither
    some = changes[:, large]
    found.left += some @ some.T
    found.right += some @ own[large]
    found.n_both += int(large.sum())

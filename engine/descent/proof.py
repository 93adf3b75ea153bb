"""Proofs: what sketches suggest of an edge, measured on every entry of the files of both its ends.

Copies, casts, exact sums, tensors taken whole, pruned shares, 4-bit groups, ranks of merged adapters and the size of a
difference can be told from all entries in one pass or two, a slice of a tensor at a time, so that memory does not depend
on the models. What cannot, or whose files are gone, stays as the sketches have it, and says so by its scope.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from engine.descent.bucket import rounding_energy
from engine.descent.grid import GRID, LEVELS
from engine.descent.kind import Kind
from engine.descent.pile import Floats, Singles
from engine.descent.slab import Shared
from engine.reader import DTYPES, Reader

_GLANCE = 0.9  # share of a tensor's first entries that are a sum, from which on its weights are taken for those of all
_TOLERANCE = 1 + 1e-3  # times half an ulp


@dataclass
class _Pair:
    """Counts of a child's entries against its parent's.

    Attributes:
        n, equal, rounded: entries; those that are equal; those that are the parent's in the child's dtype.
        n_matrix, new_zeros, kept, same: entries of matrices; 0 in the child only; not 0 in it; of these, equal.
        above, below: squared lengths of the difference and of the parent, of matrices.
        fine, coarse: groups with many levels in the parent; of these, with few in the child.
    """

    n: int = 0
    equal: int = 0
    rounded: int = 0
    n_matrix: int = 0
    new_zeros: int = 0
    kept: int = 0
    same: int = 0
    above: float = 0.0
    below: float = 0.0
    fine: int = 0
    coarse: int = 0


def of_pair(reader: Reader, tensors: Sequence[Shared], kind: Kind) -> Kind | None:
    """What a child with one parent is, by all entries; None for kinds that are not told so."""
    if kind.name == "adapter_merged":
        return _rank(reader, tensors, kind)
    if kind.statistic not in ("relative_l2", "grouped_levels_share") and kind.name not in _OF_ALL:
        return None
    found = _counted(reader, tensors, with_levels=kind.name == "quantized")
    if kind.name in ("copy", "cast"):
        return _equal(found, kind)
    if kind.name == "pruned":
        share, stayed = found.new_zeros / max(1, found.n_matrix), found.same / max(1, found.kept)
        detail = f"{share:.1%} of all {found.n_matrix:,} entries became 0, {_percent(stayed)} of the others stayed"
        return Kind(kind.name, "new_zero_share", share, detail)
    if kind.name == "quantized":
        share = found.coarse / max(1, found.fine)
        detail = (
            f"{_percent(share)} of all {found.fine:,} groups of {GRID} have at most {LEVELS} levels"
        )
        return Kind(kind.name, kind.statistic, share, detail)
    size = float(np.sqrt(found.above / found.below)) if found.below else 0.0
    detail = (
        f"the difference is {size:.1%} of the parent's weights, over all {found.n_matrix:,} entries"
    )
    return Kind(kind.name, kind.statistic, size, detail)


def _equal(found: _Pair, kind: Kind) -> Kind:
    """The share of equal entries, after rounding where that makes more of them equal."""
    lossy = found.rounded > found.equal
    share = (found.rounded if lossy else found.equal) / found.n
    detail = f"{_percent(share)} of all {found.n:,} entries are equal" + " after rounding" * lossy
    return Kind(kind.name, "equal_share", share, detail)


_OF_ALL = ("copy", "cast", "pruned")


def _percent(share: float) -> str:
    """A share that is 100 % only when it is all."""
    return "100%" if share == 1 else f"{min(share, 0.99999):.3%}"


def _counted(reader: Reader, tensors: Sequence[Shared], *, with_levels: bool) -> _Pair:
    """One pass over a child and its parent."""
    found = _Pair()
    for tensor in tensors:
        dtype = DTYPES[tensor.refs[0].dtype]
        fine = coarse = equal = 0
        for child, parent in tensor.slabs(reader):
            same = child == parent
            equal += int(same.sum())
            found.rounded += int(
                (torch.from_numpy(parent).to(dtype).float().numpy() == child).sum()
            )
            if tensor.is_vector:
                continue
            zero = child == 0
            found.new_zeros += int((zero & ~same).sum())
            found.kept += int((~zero).sum())
            found.same += int((~zero & same).sum())
            found.above += float(np.square(child.astype(np.float64) - parent).sum())
            found.below += float(np.square(parent, dtype=np.float64).sum())
            if with_levels and len(child) % tensor.columns == 0:
                before, now = (_many(part.reshape(-1, tensor.columns)) for part in (parent, child))
                fine += int(before.sum())
                coarse += int((before & ~now).sum())
        found.n += tensor.size
        found.equal += equal
        found.n_matrix += 0 if tensor.is_vector else tensor.size
        if equal < tensor.size:
            found.fine += fine
            found.coarse += coarse
    return found


def _many(rows: Singles) -> NDArray[np.bool_]:
    """Which groups of 32 entries of a row have more levels than 4 bits: (n,)."""
    ordered = np.sort(rows[:, : rows.shape[1] // GRID * GRID].reshape(-1, GRID), axis=1)
    return np.asarray((ordered[:, 1:] != ordered[:, :-1]).sum(1) + 1 > LEVELS)


def of_sum(
    reader: Reader, tensors: Sequence[Shared], kind: Kind, coefficients: Sequence[float]
) -> Kind | None:
    """How many of all entries are the parents' weighted sum, rounded, and how far the others are; None for none.

    Args:
        reader: of files.
        tensors: of the child and its parents.
        kind: what sketches suggest.
        coefficients: of the parents; a tensor whose first entries they do not make has weights of its own.
    """
    n = fit = n_own = 0
    furthest = 0.0
    for tensor in tensors:
        own: Floats | None = None
        for part in tensor.slabs(reader):
            child, terms = part[0], part[1:].astype(np.float64)
            half = np.sqrt(3 * rounding_energy(child, tensor.refs[0].dtype))
            counted = half > 0
            if own is None:
                own = _own(child, terms, half, np.asarray(coefficients, np.float64))
                n_own += own.tolist() != list(coefficients)
            steps = np.abs(child - own @ terms)[counted] / half[counted]
            n += len(steps)
            fit += int((steps <= _TOLERANCE).sum())
            furthest = max(furthest, float(steps.max(initial=0.0)) / 2)
    if not n:
        return None
    match = fit / n
    detail = (
        f"{_percent(match)} of all {n:,} entries are the parents' weighted sum, rounded; "
        f"none is more than {furthest:.2f} ulp away"
    )
    if n_own:
        detail += f"; {n_own} of {len(tensors)} tensors have weights of their own"
    return Kind(kind.name, "match", match, detail)


def _own(child: Singles, terms: Floats, half: Floats, coefficients: Floats) -> Floats:
    """The weights of a tensor: those of all, or where these do not make its first entries, the best."""
    counted = half > 0
    if not counted.any():
        return coefficients

    def matched(own: Floats) -> float:
        return float((np.abs(child - own @ terms)[counted] <= _TOLERANCE * half[counted]).mean())

    known = matched(coefficients)
    if known >= _GLANCE or len(child) < _EXTRA * len(terms):
        return coefficients
    best = np.asarray(np.linalg.lstsq(terms.T, child.astype(np.float64), rcond=None)[0])
    for _ in range(
        _REFINED
    ):  # rounding is not normal: what half an ulp explains tells nothing of the weights
        left = child - best @ terms
        beyond = left - np.clip(left, -half, half)
        off = counted & (beyond != 0)
        if off.sum() < _EXTRA * len(terms):
            break
        nearer = best + np.linalg.lstsq(terms[:, off].T, beyond[off], rcond=None)[0]
        if matched(nearer) <= matched(best):
            break
        best = nearer
    return best if matched(best) > known else coefficients


_EXTRA = 4  # entries for each weight, at least
_REFINED = 16  # rounds, at most


def of_pieces(reader: Reader, tensors: Sequence[Shared], kind: Kind) -> Kind:
    """How many of all entries are in tensors that are one of the parents', whole."""
    total = sum(tensor.size for tensor in tensors)
    whole = 0
    for tensor in tensors:
        same = np.ones(len(tensor.refs) - 1, bool)
        for part in tensor.slabs(reader):
            same &= (part[1:] == part[0]).all(1)
            if not same.any():
                break
        whole += tensor.size * bool(same.any())
    share = whole / total
    detail = f"{_percent(share)} of all {total:,} entries are in tensors that are one of the parents', whole"
    return Kind(kind.name, "match", share, detail)


def _rank(reader: Reader, tensors: Sequence[Shared], kind: Kind) -> Kind | None:
    """The rank of the differences of whole matrices, and what is beyond it; None where nothing changed."""
    found = [
        measured for tensor in tensors
        if not tensor.is_vector and tensor.columns <= _LONGEST
        and (measured := _directions(reader, tensor, round(kind.value))) is not None
    ]  # fmt: skip
    if not found:
        return None
    rank, beyond = max(r for r, _ in found), float(np.median([b for _, b in found]))
    detail = (
        f"the differences of all {len(found)} matrices that changed have rank {rank} at most; "
        f"beyond it is {beyond:.2f} times what rounding leaves"
    )
    return Kind(kind.name, "rank", float(rank), detail)


def _directions(reader: Reader, tensor: Shared, about: int) -> tuple[int, float] | None:
    """The rank of one matrix's difference, and the energy beyond it over that of rounding; None for no difference.

    A product with a few more random vectors than the rank holds all of its directions (Halko, Martinsson and Tropp,
    algorithm 4.1); a second pass takes the difference apart along them.
    """
    few = min(about + _MORE, tensor.rows, tensor.columns)
    draws = np.random.default_rng(0).standard_normal((tensor.columns, few))
    parts, energy, rounding = [], 0.0, 0.0
    for child, parent in tensor.slabs(reader):
        difference = (child.astype(np.float64) - parent).reshape(-1, tensor.columns)
        parts.append(difference @ draws)
        energy += float(np.square(difference).sum())
        for values, ref in ((child, tensor.refs[0]), (parent, tensor.refs[1])):
            rounding += float(rounding_energy(values, ref.dtype).sum())
    if not energy:
        return None
    axes = np.linalg.qr(np.concatenate(parts))[0]
    inner, row = np.zeros((few, tensor.columns)), 0
    for child, parent in tensor.slabs(reader):
        difference = (child.astype(np.float64) - parent).reshape(-1, tensor.columns)
        inner += axes[row : row + len(difference)].T @ difference
        row += len(difference)
    sizes = np.linalg.svd(inner, compute_uv=False)
    noise = np.sqrt(rounding / tensor.size)
    edge = _EDGE * noise * (np.sqrt(tensor.rows) + np.sqrt(tensor.columns))
    rank = int((sizes > edge).sum())
    rest = max(0.0, energy - float(np.square(sizes[:rank]).sum()))
    return rank, rest / max(rounding, 1e-300)


_MORE = 8
_EDGE = 1.6  # times the largest singular value of rounding
_LONGEST = 1 << 17  # columns of a matrix whose rank is looked at


_LEAST = 0.9


def is_refuted(kind: Kind) -> bool:
    """Tell whether a share that should be all, or nearly, is not."""
    return kind.statistic in ("match", "equal_share") and kind.value < _LEAST

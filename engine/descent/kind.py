"""Kinds: by what sort of change a child came from its one parent, read from the difference.

Tests go from the narrowest to the widest, the first that holds decides, and what it measured is kept as evidence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.descent.bucket import Bucket, Floats, Span, per_pair, rounding_energy

VERSION = "1"

_ZEROS = 0.05  # share of new zeros from which on a model is pruned
_SUPPORT = 0.98  # of what is left, that is as it was
_GRID = 32  # entries of one group of a quantised row
_LEVELS = 16  # of 4 bits
_GROUPED = 0.9  # share of the groups with no more levels
_NORMAL = (2.6, 3.5)
_FLAT_ROWS = 8
_FLAT = 1.06  # largest singular value over that of white noise (Marchenko and Pastur)
_EVEN = 0.2  # spread of relative changes among tensors, of noise
_WIDE = 6  # rows and columns of a patch that a rank is read from
_EDGE = 1.6  # times the largest singular value of rounding
_BEYOND = 2.0  # energy of what is left, over that of rounding
_TOUCHED = 0.02  # share of the entries of vectors, of an adapter that was merged
_LOW_RANK = 0.7  # of the rows, that a difference of low rank has at most
_SAME_VECTOR = 0.9
_CONTINUED = (
    0.35  # |D| / |W_parent| of whole matrices, of continued pre-training in place of fine-tuning
)


@dataclass(frozen=True)
class Kind:
    """A word for a change, and why.

    Attributes:
        name: copy, finetune, continued_pretrain, adapter_merged, quantized, pruned, edited, noise.
        statistic: what decided.
        value: of it.
        detail: in words.
    """

    name: str
    statistic: str
    value: float
    detail: str


@dataclass(frozen=True)
class Change:
    """The difference of a child and a parent, patch by patch.

    Attributes:
        spans: patches of matrices.
        parent, child, difference: of each patch, (rows, columns) float64.
        noise: what rounding may have added, root mean square, of each patch.
        vectors_changed: share of the entries of vectors that changed.
    """

    spans: tuple[Span, ...]
    parent: tuple[Floats, ...]
    child: tuple[Floats, ...]
    difference: tuple[Floats, ...]
    noise: tuple[float, ...]
    vectors_changed: float

    @property
    def touched(self) -> list[int]:
        """Places of the patches that changed at all."""
        return [i for i, d in enumerate(self.difference) if d.any()]

    def relative(self) -> float:
        """|D| over |W| of the parent, of whole matrices."""
        above = sum(
            s.patch.share * float((d * d).sum())
            for s, d in zip(self.spans, self.difference, strict=True)
        )
        below = sum(
            s.patch.share * float((w * w).sum())
            for s, w in zip(self.spans, self.parent, strict=True)
        )
        return float(np.sqrt(above / below)) if below else 0.0


def change(bucket: Bucket, parent: int, child: int) -> Change:
    """The difference of two models of a bucket."""
    spans, parts = [], []
    n_vector = n_changed = 0
    for span in bucket.spans:
        both = bucket.values[[parent, child], span.slice]
        if span.patch.is_vector:
            n_vector += both.shape[1]
            n_changed += int((both[0] != both[1]).sum())
            continue
        spans.append(span)
        old, new = both.astype(np.float64).reshape(2, span.patch.n_rows, span.patch.n_columns)
        energy = rounding_energy(both[1], bucket.dtypes[child]).mean()
        energy += rounding_energy(both[0], bucket.dtypes[parent]).mean()
        parts.append((old, new, new - old, float(np.sqrt(energy))))
    columns = list(zip(*parts, strict=True)) or [(), (), (), ()]
    changed = n_changed / n_vector if n_vector else 0.0
    return Change(tuple(spans), columns[0], columns[1], columns[2], columns[3], changed)


def kind_of(found: Change) -> Kind:
    """Name a change."""
    if not found.touched and not found.vectors_changed:
        return Kind("copy", "changed_share", 0.0, "every sampled entry is equal")
    for test in (leaf_kind, _noise, _low_rank):
        kind = test(found)
        if kind is not None:
            return kind
    size = found.relative()
    name = "continued_pretrain" if size > _CONTINUED else "finetune"
    detail = f"the difference is {size:.1%} of the parent's weights"
    return Kind(name, "relative_l2", size, detail)


@per_pair
def kind_between(bucket: Bucket, parent: int, child: int) -> Kind:
    """Name the change from one model of a bucket to another."""
    return kind_of(change(bucket, parent, child))


def leaf_kind(found: Change) -> Kind | None:
    """Name a change after which nobody goes on: pruned or quantized; None for any other."""
    return _pruned(found) or _quantized(found)


def _pruned(found: Change) -> Kind | None:
    """Zeros that the parent has not, and little else."""
    new = sum(
        int(((c == 0) & (p != 0)).sum()) for c, p in zip(found.child, found.parent, strict=True)
    )
    kept = [(c != 0, d) for c, d in zip(found.child, found.difference, strict=True)]
    total = sum(c.size for c in found.child)
    share = new / max(1, total)
    if share < _ZEROS:
        return None
    same = sum(int((d[k] == 0).sum()) for k, d in kept)
    if same < _SUPPORT * sum(int(k.sum()) for k, _ in kept):
        return None
    return Kind(
        "pruned", "new_zero_share", share, f"{share:.0%} of the entries became 0, the others stayed"
    )


def _quantized(found: Change) -> Kind | None:
    """A child on a grid that its parent is not on: groups with few levels, or rows that are whole multiples."""
    levels = n_groups = 0
    for i in found.touched:
        width = found.child[i].shape[1] // _GRID * _GRID
        now, before = (
            _n_levels(part[:, :width].reshape(-1, _GRID))
            for part in (found.child[i], found.parent[i])
        )
        n_groups += int((before > _LEVELS).sum())
        levels += int(((before > _LEVELS) & (now <= _LEVELS)).sum())
    if n_groups and levels / n_groups > _GROUPED:
        share = levels / n_groups
        detail = f"{share:.0%} of the groups of {_GRID} have at most {_LEVELS} levels"
        return Kind("quantized", "grouped_levels_share", share, detail)
    glance = (
        _regularity(parts, found.touched[:_GLANCE], 1) for parts in (found.child, found.parent)
    )
    if next(glance) - next(glance) < _REGULAR / 3:
        return None
    own, others = (_regularity(parts, found.touched) for parts in (found.child, found.parent))
    if others and own - others > _REGULAR:
        detail = f"rows are multiples of one step: regularity {own:.2f}, the parent's {others:.2f}"
        return Kind("quantized", "row_regularity", own, detail)
    return None


def _n_levels(groups: Floats) -> NDArray[np.int64]:
    """Distinct values of each group: (n, _GRID) → (n,)."""
    ordered = np.sort(groups, axis=1)
    return np.asarray((ordered[:, 1:] != ordered[:, :-1]).sum(1) + 1)


def _regularity(parts: Sequence[Floats], places: Sequence[int], most: int = 8) -> float:
    """How near the entries of rows are to multiples of the row's best step: the mean over rows of its largest mean cosine.

    Steps from an eighth to a sixtieth of a row's spread are tried, as grids of 255 values have them; 0 for no row.
    """
    found: list[float] = []
    for i in places:
        for row in parts[i][:most]:
            spread = float(row.std())
            if spread == 0 or len(row) < _GRID:
                continue
            found.append(float(_waves(row[:_ENTRIES] / spread).max()))
        if len(found) >= _ENOUGH:
            break
    return float(np.mean(found)) if found else 0.0


def _waves(row: Floats) -> Floats:
    """The mean cosine of a row with a wave of each step; those of a coarse step and a fine one make all: (1200,)."""
    coarse, fine = (np.exp(2j * np.pi * np.outer(steps, row)) for steps in (_COARSE, _FINE))
    return np.asarray((coarse @ fine.T).real.reshape(-1) / len(row))


_REGULAR = 0.12
_STEPS = np.linspace(8.0, 60.0, 1200)
_COARSE, _FINE = _STEPS[::30], _STEPS[:30] - _STEPS[0]
_GLANCE, _ENTRIES, _ENOUGH = 8, 128, 60


@dataclass(frozen=True)
class _Rank:
    """The directions of one patch's difference.

    Attributes:
        rank: singular values above what rounding makes.
        most: the smaller of its rows and columns.
        beyond: energy of the others, over that of rounding.
        rows: where the patch lies.
        left: the first left singular vector.
    """

    rank: int
    most: int
    beyond: float
    rows: tuple[int, int, int]
    left: Floats


def _ranks(found: Change) -> list[_Rank]:
    """The directions of all patches that changed and have some."""
    ranks = []
    for i in found.touched:
        difference, patch = found.difference[i], found.spans[i].patch
        if min(difference.shape) < _WIDE:
            continue
        left, sizes, _ = np.linalg.svd(difference, full_matrices=False)
        edge = (
            _EDGE * found.noise[i] * (np.sqrt(difference.shape[0]) + np.sqrt(difference.shape[1]))
        )
        rank = int((sizes > edge).sum())
        rest = float(np.square(sizes[rank:]).sum()) / difference.size
        beyond = rest / max(found.noise[i] ** 2, 1e-300)
        rows = (patch.row, patch.n_rows, patch.shape[0])
        ranks.append(_Rank(rank, min(difference.shape), beyond, rows, left[:, 0]))
    return ranks


def _low_rank(found: Change) -> Kind | None:
    """Matrices whose differences have few directions, and nothing else but rounding."""
    ranks = _ranks(found)
    rank = max((r.rank for r in ranks), default=0)
    if not rank or np.median([r.beyond for r in ranks]) > _BEYOND:
        return None
    common = _common(ranks) if rank == 1 else 0.0
    if common > _SAME_VECTOR:
        detail = "every difference has rank 1 and the same left vector: one direction was taken out"
        return Kind("edited", "shared_left_vector", common, detail)
    full = any(r.rank > max(1.0, _LOW_RANK * r.most) for r in ranks)
    if full or found.vectors_changed > _TOUCHED:
        return None
    detail = f"every difference has rank {rank} at most"
    return Kind("adapter_merged", "rank", float(rank), detail)


def _common(ranks: Sequence[_Rank]) -> float:
    """Mean |cosine| of the first left vectors of patches on the same rows; 0 where no two are."""
    groups: dict[tuple[int, int, int], list[Floats]] = {}
    for r in ranks:
        groups.setdefault(r.rows, []).append(r.left)
    found = []
    for group in groups.values():
        if len(group) > 1:
            stack = np.array(group)
            cosine = np.abs(stack @ stack.T)
            found.append(float(cosine[np.triu_indices(len(group), 1)].mean()))
    return float(np.median(found)) if found else 0.0


def _noise(found: Change) -> Kind | None:
    """A difference that is white, normal, and in every tensor the same share of the weights."""
    shares, tops, fourth, n = [], [], 0.0, 0
    for i in found.touched:
        difference, parent = found.difference[i], found.parent[i]
        size, scale = float(np.sqrt((difference**2).mean())), float(parent.std())
        if not scale or difference.size < _GRID:
            continue
        shares.append(size / scale)
        fourth += float(((difference / size) ** 4).sum())
        n += difference.size
        if min(difference.shape) >= _FLAT_ROWS:
            edge = size * (np.sqrt(difference.shape[0]) + np.sqrt(difference.shape[1]))
            tops.append(float(np.linalg.norm(difference, 2)) / edge)
    if tops and np.median(tops) > _FLAT:
        return None
    if len(shares) < max(3, 0.9 * len(found.spans)) or not n:
        return None
    spread, kurtosis = float(np.std(shares) / np.mean(shares)), fourth / n
    if spread > _EVEN or not _NORMAL[0] < kurtosis < _NORMAL[1]:
        return None
    detail = f"white noise of {np.mean(shares):.1%} of every tensor's spread"
    return Kind("noise", "relative_noise", float(np.mean(shares)), detail)

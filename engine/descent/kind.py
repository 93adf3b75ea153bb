"""Kinds: by what sort of change a child came from its one parent, read from the difference.

Tests go from the narrowest to the widest, the first that holds decides, and what it measured is kept as evidence.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from engine.descent.bucket import Bucket, once
from engine.descent.grid import GRID, LEVELS, many_levels, owners, regularity
from engine.descent.pile import Floats, Pile

VERSION = "1"

_ZEROS = 0.05  # share of new zeros from which on a model is pruned
_SUPPORT = 0.98  # of what is left, that is as it was
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
class _Part:
    """Patches of one shape that changed.

    Attributes:
        pile: which.
        parent: their entries before, (m, r, c).
        difference: what was added.
    """

    pile: Pile
    parent: Floats
    difference: Floats

    @property
    def size(self) -> int:
        """Entries of each patch."""
        return self.pile.n_rows * self.pile.n_columns

    @property
    def spread(self) -> float:
        """The largest singular value of white noise of spread 1, about."""
        return float(np.sqrt(self.pile.n_rows) + np.sqrt(self.pile.n_columns))


@dataclass(frozen=True)
class Change:
    """The difference of a child and a parent, patch by patch of matrices.

    Attributes:
        bucket: all models.
        old, new: places of the parent and the child.
    """

    bucket: Bucket
    old: int
    new: int

    @cached_property
    def noise(self) -> Floats:
        """What rounding may have added, root mean square, of each patch: (m,)."""
        found: Floats = np.sqrt(self.bucket.ulps[self.new] + self.bucket.ulps[self.old])
        return found

    @cached_property
    def is_changed(self) -> NDArray[np.bool_]:
        """Of all scalars, which are others: (s,)."""
        found: NDArray[np.bool_] = self.bucket.values[self.old] != self.bucket.values[self.new]
        return found

    @cached_property
    def vectors_changed(self) -> float:
        """Share of the entries of vectors that changed."""
        vectors = [self.is_changed[s.slice] for s in self.bucket.spans if s.patch.is_vector]
        return float(np.concatenate(vectors).mean()) if vectors else 0.0

    @cached_property
    def touched(self) -> NDArray[np.bool_]:
        """Of each matrix, whether its patch changed at all: (m,)."""
        found = np.zeros(len(self.bucket.matrices()), bool)
        for pile in self.bucket.piles:
            found[pile.places] = self.is_changed[pile.index].any((1, 2))
        return found

    @cached_property
    def parts(self) -> tuple[_Part, ...]:
        """The patches that changed."""
        found = []
        for whole in self.bucket.piles:
            pile = whole.some(self.touched[whole.places])
            if len(pile.places):
                both = self.bucket.values[[self.old, self.new]]
                parent, child = pile.of(both).astype(np.float64)
                found.append(_Part(pile, parent, child - parent))
        return tuple(found)

    def relative(self) -> float:
        """|D| over |W| of the parent, of whole matrices."""
        parent, child = self.bucket.values[[self.old, self.new]].astype(np.float64)
        size = self.bucket.energy(parent)
        return float(np.sqrt(self.bucket.energy(child - parent) / size)) if size else 0.0


def kind_of(found: Change) -> Kind:
    """Name a change."""
    if not found.is_changed.any():
        return Kind("copy", "changed_share", 0.0, "every sampled entry is equal")
    for test in (leaf_kind, _noise, _low_rank):
        kind = test(found)
        if kind is not None:
            return kind
    size = found.relative()
    name = "continued_pretrain" if size > _CONTINUED else "finetune"
    detail = f"the difference is {size:.1%} of the parent's weights"
    return Kind(name, "relative_l2", size, detail)


@once
def kind_between(bucket: Bucket, parent: int, child: int) -> Kind:
    """Name the change from one model of a bucket to another."""
    return kind_of(Change(bucket, parent, child))


def leaf_kind(found: Change) -> Kind | None:
    """Name a change after which nobody goes on: pruned or quantized; None for any other."""
    return _pruned(found) or _quantized(found)


def _pruned(found: Change) -> Kind | None:
    """Zeros that the parent has not, and little else."""
    counted = found.bucket.counts > 0
    zero = found.bucket.values[found.new] == 0
    share = int((zero & found.is_changed & counted).sum()) / max(1, int(counted.sum()))
    if share < _ZEROS:
        return None
    kept = counted & ~zero
    if int((kept & ~found.is_changed).sum()) < _SUPPORT * int(kept.sum()):
        return None
    return Kind(
        "pruned", "new_zero_share", share, f"{share:.0%} of the entries became 0, the others stayed"
    )


def _quantized(found: Change) -> Kind | None:
    """A child on a grid that its parent is not on: groups with few levels, or rows that are whole multiples."""
    bucket, places = found.bucket, tuple(np.flatnonzero(found.touched).tolist())
    before, now = many_levels(bucket, found.old), many_levels(bucket, found.new)
    before = before & found.touched[owners(bucket)]
    n_groups, coarse = int(before.sum()), int((before & ~now).sum())
    if n_groups and coarse / n_groups > _GROUPED:
        share = coarse / n_groups
        detail = f"{share:.0%} of the groups of {GRID} have at most {LEVELS} levels"
        return Kind("quantized", "grouped_levels_share", share, detail)
    own, others = (regularity(bucket, i, places[:_GLANCE], 1) for i in (found.new, found.old))
    if own - others < _REGULAR / 3:
        return None
    own, others = (regularity(bucket, i, places) for i in (found.new, found.old))
    if others and own - others > _REGULAR:
        detail = f"rows are multiples of one step: regularity {own:.2f}, the parent's {others:.2f}"
        return Kind("quantized", "row_regularity", own, detail)
    return None


_REGULAR = 0.12
_GLANCE = 8


def _low_rank(found: Change) -> Kind | None:
    """Matrices whose differences have few directions, and nothing else but rounding."""
    rank, beyond = 0, list[Floats]()
    for part in found.parts:
        if part.pile.least < _WIDE:
            continue
        most = max(1.0, _LOW_RANK * part.pile.least)
        noise = found.noise[part.pile.places]
        for some in (
            slice(1),
            slice(1, None),
        ):  # the first tells of most changes that they have many
            sizes = np.linalg.svd(part.difference[some], compute_uv=False)
            small = sizes <= (_EDGE * part.spread * noise[some])[:, None]
            ranks = (~small).sum(1)
            if (ranks > most).any():
                return None
            rest = (np.square(sizes) * small).sum(1) / part.size
            beyond.append(rest / np.maximum(np.square(noise[some]), 1e-300))
            rank = max(rank, int(ranks.max(initial=0)))
    if not rank or np.median(np.concatenate(beyond)) > _BEYOND:
        return None
    common = _common(found) if rank == 1 else 0.0
    if common > _SAME_VECTOR:
        detail = "every difference has rank 1 and the same left vector: one direction was taken out"
        return Kind("edited", "shared_left_vector", common, detail)
    if found.vectors_changed > _TOUCHED:
        return None
    detail = f"every difference has rank {rank} at most"
    return Kind("adapter_merged", "rank", float(rank), detail)


def _common(found: Change) -> float:
    """Mean |cosine| of the first left vectors of patches on the same rows; 0 where no two are."""
    groups: dict[tuple[int, int, int], list[Floats]] = {}
    for part in found.parts:
        if part.pile.least >= _WIDE:
            vectors = np.linalg.svd(part.difference, full_matrices=False)[0][:, :, 0]
            for place, left in zip(part.pile.places, vectors, strict=True):
                patch = found.bucket.matrices()[place].patch
                groups.setdefault((patch.row, patch.n_rows, patch.shape[0]), []).append(left)
    cosines = []
    for group in groups.values():
        if len(group) > 1:
            stack = np.array(group)
            cosine = np.abs(stack @ stack.T)
            cosines.append(float(cosine[np.triu_indices(len(group), 1)].mean()))
    return float(np.median(cosines)) if cosines else 0.0


def _noise(found: Change) -> Kind | None:
    """A difference that is white, normal, and in every tensor the same share of the weights."""
    shares, fourth, n = np.zeros(0), 0.0, 0
    for part in found.parts:
        scales = part.parent.std((1, 2))
        told = scales > 0
        if part.size < GRID or not told.any():
            continue
        square = np.square(part.difference[told])
        means = square.mean((1, 2))
        shares = np.concatenate([shares, np.sqrt(means) / scales[told]])
        fourth += float((np.square(square).sum((1, 2)) / means**2).sum())
        n += square.size
    if len(shares) < max(3, 0.9 * len(found.touched)):
        return None
    spread, kurtosis = float(np.std(shares) / np.mean(shares)), fourth / n
    if spread > _EVEN or not _NORMAL[0] < kurtosis < _NORMAL[1] or not _is_flat(found):
        return None
    detail = f"white noise of {np.mean(shares):.1%} of every tensor's spread"
    return Kind("noise", "relative_noise", float(np.mean(shares)), detail)


def _is_flat(found: Change) -> bool:
    """Tell whether no difference has a direction that stands out of what chance gives; of some that have directions."""
    tops = []
    for part in found.parts:
        if part.size >= GRID and part.pile.least >= _FLAT_ROWS:
            sizes = np.sqrt(np.square(part.difference).mean((1, 2)))
            largest = np.linalg.norm(part.difference, 2, axis=(1, 2))
            tops.append(largest / (sizes * part.spread))
    return not tops or float(np.median(np.concatenate(tops))) <= _FLAT

"""Kinds: by what sort of change a child came from its one parent, read from the difference.

Tests go from the narrowest to the widest, the first that holds decides, and what it measured is kept as evidence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from engine.descent.bucket import Bucket, Floats, once
from engine.descent.grid import GRID, LEVELS, many_levels, regularity

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
    def parent(self) -> tuple[Floats, ...]:
        """The parent's entries, of each patch: (rows, columns) float64."""
        return self._patches(self.old)

    @cached_property
    def child(self) -> tuple[Floats, ...]:
        """The child's, in the same way."""
        return self._patches(self.new)

    @cached_property
    def difference(self) -> tuple[Floats, ...]:
        """What was added to the parent."""
        return tuple(c - p for c, p in zip(self.child, self.parent, strict=True))

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
    def touched(self) -> list[int]:
        """Places of the patches that changed at all."""
        spans = enumerate(self.bucket.matrices())
        return [i for i, span in spans if self.is_changed[span.slice].any()]

    def relative(self) -> float:
        """|D| over |W| of the parent, of whole matrices."""
        shares = [span.patch.share for span in self.bucket.matrices()]
        above, below = (
            sum(n * float((w * w).sum()) for n, w in zip(shares, part, strict=True))
            for part in (self.difference, self.parent)
        )
        return float(np.sqrt(above / below)) if below else 0.0

    def _patches(self, place: int) -> tuple[Floats, ...]:
        """A model's entries, patch by patch."""
        own = self.bucket.values[place].astype(np.float64)
        return tuple(
            own[s.slice].reshape(s.patch.n_rows, s.patch.n_columns) for s in self.bucket.matrices()
        )


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
    bucket, places = found.bucket, found.touched
    before, now = many_levels(bucket, found.old), many_levels(bucket, found.new)
    n_groups = sum(int(before[i].sum()) for i in places)
    coarse = sum(int((before[i] & ~now[i]).sum()) for i in places)
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
    ranks: list[int] = []
    beyond: list[float] = []
    places = [i for i in found.touched if min(found.difference[i].shape) >= _WIDE]
    for i in places:
        difference, noise = found.difference[i], found.noise[i]
        sizes = np.linalg.svd(difference, compute_uv=False)
        edge = _EDGE * noise * (np.sqrt(difference.shape[0]) + np.sqrt(difference.shape[1]))
        rank = int((sizes > edge).sum())
        if rank > max(1.0, _LOW_RANK * min(difference.shape)):
            return None
        ranks.append(rank)
        rest = float(np.square(sizes[rank:]).sum()) / difference.size
        beyond.append(rest / max(noise**2, 1e-300))
    rank = max(ranks, default=0)
    if not rank or np.median(beyond) > _BEYOND:
        return None
    common = _common(found, places) if rank == 1 else 0.0
    if common > _SAME_VECTOR:
        detail = "every difference has rank 1 and the same left vector: one direction was taken out"
        return Kind("edited", "shared_left_vector", common, detail)
    if found.vectors_changed > _TOUCHED:
        return None
    detail = f"every difference has rank {rank} at most"
    return Kind("adapter_merged", "rank", float(rank), detail)


def _common(found: Change, places: Sequence[int]) -> float:
    """Mean |cosine| of the first left vectors of patches on the same rows; 0 where no two are."""
    groups: dict[tuple[int, int, int], list[Floats]] = {}
    for i in places:
        patch = found.bucket.matrices()[i].patch
        left = np.linalg.svd(found.difference[i], full_matrices=False)[0][:, 0]
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
    shares, fourth, n = [], 0.0, 0
    for i in found.touched:
        difference, scale = found.difference[i], float(found.parent[i].std())
        if not scale or difference.size < GRID:
            continue
        square = np.square(difference)
        mean = float(square.mean())
        shares.append(float(np.sqrt(mean)) / scale)
        fourth += float(np.square(square).sum()) / mean**2
        n += difference.size
    if len(shares) < max(3, 0.9 * len(found.difference)) or not n:
        return None
    spread, kurtosis = float(np.std(shares) / np.mean(shares)), fourth / n
    if spread > _EVEN or not _NORMAL[0] < kurtosis < _NORMAL[1] or not _is_flat(found):
        return None
    detail = f"white noise of {np.mean(shares):.1%} of every tensor's spread"
    return Kind("noise", "relative_noise", float(np.mean(shares)), detail)


def _is_flat(found: Change) -> bool:
    """Tell whether no difference has a direction that stands out of what chance gives; of some that have directions."""
    tops = []
    for i in found.touched:
        difference = found.difference[i]
        if difference.size >= GRID and min(difference.shape) >= _FLAT_ROWS:
            size = float(np.sqrt(np.square(difference).mean()))
            edge = size * (np.sqrt(difference.shape[0]) + np.sqrt(difference.shape[1]))
            tops.append(float(np.linalg.norm(difference, 2)) / edge)
    return not tops or float(np.median(tops)) <= _FLAT

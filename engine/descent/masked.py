"""Masked merges: models most of whose entries are one parent's change, scaled, or another's, or their sum, or none.

TIES, DARE, DELLA and Breadcrumbs drop entries and add up what is left. Where only one parent's entry stays, the child's
change divided by that parent's is one number (of DELLA, one for each rank of magnitude), so that the ratios of a parent
have a peak as narrow as rounding; for models that are merely related they are spread out. The proof is the share of the
entries that are one of the few sums the peaks allow: a parent, read as a child of its own merges, leaves too many over.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from engine.descent.bucket import Bucket, once, rounding_energy, searched
from engine.descent.combination import is_base
from engine.descent.frozen import frozen
from engine.descent.pile import Floats
from engine.descent.ratio import binned, standing_out
from engine.descent.weighting import certain, sums_of, weighted

LEAST_EXPLAINED = 0.9
"""Share of the entries that are one of the sums of two parents, beyond what chance explains, at least; of more `_PARENT` more."""

LEAST_OF_SOME = 0.7
"""The same where the base is known on some entries only, and ranks of magnitude are not."""

_ENTRIES = 12_288  # looked at, at most
_BASES = 3  # tried
_EQUAL = 0.04  # share of the entries that a child has of its base, at least
_NEAREST = 16
_MOST_PARENTS = 4
_CLEAR = 6.0  # a change counts when it is so many times what rounding may have added
_RANKS = 20  # classes of magnitude
_LEAST_ENTRIES = 40
_FIT = 2.5  # times rounding, that a sum may be off
_PEAK = 0.08  # share of the clear entries in a peak, at least
_OWN = 0.25  # of a parent's peak, that no better parent explains


@dataclass(frozen=True)
class Masked:
    """A model that took some entries of each parent's change.

    Attributes:
        child: its place in the bucket.
        base: place of the model the changes are from.
        parents: places, by share, largest first.
        scales: by what each parent's change is multiplied, in the mean.
        shares: of each parent's clear entries, how many the child has at that scale.
        explained: share of the entries that are one of the sums.
        dropped: share of the entries that parents changed and the child did not.
    """

    child: int
    base: int
    parents: tuple[int, ...]
    scales: tuple[float, ...]
    shares: tuple[float, ...]
    explained: float
    dropped: float


@dataclass(frozen=True)
class _Term:
    """A change that a child may have taken entries of.

    Attributes:
        bucket: all models.
        base, parent: places of the models before and after.
        change: between them, (e,).
    """

    bucket: Bucket
    base: int
    parent: int
    change: Floats


@dataclass(frozen=True)
class _Moved:
    """What a child has changed.

    Attributes:
        change: (e,).
        noise: what rounding may have added, root mean square: (e,).
    """

    change: Floats
    noise: Floats

    @cached_property
    def floor(self) -> Floats:
        """What a change that counts is above: (e,)."""
        return np.asarray(_CLEAR * self.noise)

    @cached_property
    def is_clear(self) -> NDArray[np.bool_]:
        """Which entries changed by that: (e,)."""
        return np.asarray(np.abs(self.change) > self.floor)

    @cached_property
    def divisor(self) -> Floats:
        """Rounding, above 0: (e,)."""
        return self.noise.clip(1e-300)

    @cached_property
    def slack(self) -> Floats:
        """What a sum may be off: (e,)."""
        return np.asarray(_FIT * self.noise)


@dataclass(frozen=True)
class _Peak:
    """A parent whose ratios have a peak.

    Attributes:
        parent: its place.
        scaled: its change, times the peak's ratio: what the child has where it took it.
        scale: the mean ratio.
        share: of the clear entries, how many have it.
        fits: which have.
    """

    parent: int
    scaled: Floats
    scale: float
    share: float
    fits: NDArray[np.bool_]


def masked(
    bucket: Bucket, child: int, among: Sequence[int], absent: int | None = None
) -> Masked | None:
    """The base and the parents whose entries a child took; None where they do not explain it.

    Args:
        bucket: all models.
        child: a place in it.
        among: places of those it may be made of.
        absent: the place of a base that is known on some entries only.
    """
    if absent is None:
        return _present(bucket, child, among)
    near = bucket.nearest(child, among, _NEAREST)
    return _made_of(bucket, child, [absent, *(i for i in near if i != absent)], absent)


@searched(_NEAREST)
def _present(bucket: Bucket, child: int, near: list[int]) -> Masked | None:
    """The same of a base that is there, among the nearest."""
    return _made_of(bucket, child, near, None)


def _made_of(bucket: Bucket, child: int, near: list[int], absent: int | None) -> Masked | None:
    """The same among a few."""
    places = _entries(bucket)
    own = bucket.values[child, places]
    equal = {i: float((bucket.values[i, places] == own).mean()) for i in near}
    best: Masked | None = None
    for base in sorted(near, key=lambda i: (-equal[i], i))[:_BASES]:
        if equal[base] < _EQUAL:
            break
        others = {
            i: bucket.values[i, places].astype(np.float64)
            for i in near
            if i != base and not _is_whole(bucket, child, base, i)
        }
        made = _on(bucket, child, base, places, others)
        if made is not None and made.explained < _least(made, absent):
            made = None
        if made is not None and (best is None or _gain(made) > _gain(best)):
            best = made
    return best


def _least(found: Masked, absent: int | None) -> float:
    """What a mask has to explain: the more parents, the more sums there are, and models under one sign-like optimiser share many."""
    if found.base == absent:
        return LEAST_OF_SOME
    return LEAST_EXPLAINED + _PARENT * (len(found.parents) - 2)


def _is_whole(bucket: Bucket, child: int, base: int, parent: int) -> bool:
    """Tell whether a child has a tensor wholly that a parent changed; who froze it is a parent's parent, and no mask."""
    changed = bucket.values[child] != bucket.values[base]
    whole = frozen(bucket, child, parent) & (bucket.counts > 0)
    return int(np.count_nonzero(whole & changed)) >= _LEAST_ENTRIES


def _on(
    bucket: Bucket, child: int, base: int, places: NDArray[np.int64], others: dict[int, Floats]
) -> Masked | None:
    """What explains a child from one base on."""
    own = bucket.values[child, places]
    noise = np.sqrt(rounding_energy(own, bucket.dtypes[child]))
    origin = bucket.values[base, places].astype(np.float64)
    moved = _Moved(own.astype(np.float64) - origin, noise)

    def peak(i: int) -> _Peak | None:
        term = _Term(bucket, base, i, others[i] - origin)
        key = bucket.key("peak", (child, base, i))
        return bucket.blanks.part(key, lambda: _peak(moved, term))

    peaks = [found for found in map(peak, others) if found is not None]
    peaks = sorted(peaks, key=lambda p: (-p.share, p.parent))[:_MOST_PEAKS]
    best: Masked | None = None
    for size in range(2, _MOST_PARENTS + 1):
        for pick in combinations(peaks, size):
            if _overlapping(pick) or not is_base(bucket, base, [base, *(p.parent for p in pick)]):
                continue
            found = _explained(child, base, pick, moved.change, noise)
            if found is not None and (best is None or _gain(found) > _gain(best)):
                best = found
    return best


def _gain(found: Masked) -> float:
    """Explained share, less what another parent must bring."""
    return found.explained - _PARENT * len(found.parents)


_PARENT = 0.03  # of the entries, that a further parent must explain


def _explained(
    child: int, base: int, pick: Sequence[_Peak], moved: Floats, noise: Floats
) -> Masked | None:
    """What some parents together explain; None where that is too little, or what chance explains."""
    changed = np.logical_or.reduce([np.abs(p.scaled) > _CLEAR * noise for p in pick])
    if not changed.any():
        return None
    moved, noise = moved[changed], noise[changed]
    scaled = [p.scaled[changed] for p in pick]
    sums = sums_of(scaled)
    explained = certain(moved, sums, noise)
    scales = np.array([p.scale for p in pick])
    if _WEIGHTED <= explained < _WELL and np.ptp(scales) <= _ALIKE * np.abs(scales).max():
        means = weighted(moved, scaled, noise)
        explained = max(explained, certain(moved, [*sums, *means], noise)) if means else explained
    if explained < LEAST_OF_SOME:
        return None
    dropped = float((np.abs(moved) <= noise).mean())
    return Masked(
        child, base, tuple(p.parent for p in pick), tuple(p.scale for p in pick),
        tuple(p.share for p in pick), explained, dropped,
    )  # fmt: skip


_MOST_PEAKS = 10
_WEIGHTED = 0.4  # explained by sums and plain means, from which on means with weights are tried
_WELL = 0.97
_ALIKE = 0.05  # of scales, that those of TIES may differ


def _peak(moved: _Moved, term: _Term) -> _Peak | None:
    """The ratios that stand out, one for each class of magnitude that has one; None where there are too few."""
    sizes = np.abs(term.change)
    clear = sizes > moved.floor
    both = np.flatnonzero(clear & moved.is_clear)
    n_clear = int(np.count_nonzero(clear))
    if len(both) < max(_LEAST_ENTRIES, _PEAK * n_clear):
        return None
    sizes /= moved.divisor
    typical = np.clip(np.median(sizes[clear]), _CLEAR, _LARGEST)
    best: _Peak | None = None
    for scaled in _scaled(moved, term, both, sizes[both] >= typical):
        found, fits = _refined(scaled, moved, both)
        share = len(fits) / n_clear
        if share >= _PEAK and (best is None or share > best.share):
            ratio = float(np.median(moved.change[fits] / term.change[fits]))
            has = np.zeros(len(clear), bool)
            has[fits] = True
            best = _Peak(term.parent, found, ratio, share, has)
    return best


def _scaled(
    moved: _Moved, term: _Term, both: NDArray[np.int64], large: NDArray[np.bool_]
) -> Iterator[Floats]:
    """A change times the ratios that stand out: of large entries by class, of all by class, of large ones at once.

    Args:
        moved: what the child has changed.
        term: the change.
        both: entries that are clear in both.
        large: which of these are large in the term.
    """
    ratios = moved.change[both] / term.change[both]
    inside, bins = binned(ratios)
    ratios, top = ratios[inside], np.flatnonzero(large[inside])
    of = _classes(term.bucket, term.base, term.parent)[both[inside]].astype(np.int64)
    few = ratios[top], bins[top], of[top]
    for some in (few, (ratios, bins, of)):
        scales = standing_out(*some, _RANKS)
        found = np.flatnonzero(scales)
        if len(found):
            yield term.change / _chances(scales[found], (found + 0.5) / _RANKS, term)
    one = standing_out(few[0], few[1], np.zeros_like(few[2]), 1)[0]
    if one:
        yield term.change * one


_LARGEST = 60.0  # times rounding, that a large change need not exceed; ratios of few steps of rounding mislead


def _refined(
    scaled: Floats, moved: _Moved, both: NDArray[np.int64]
) -> tuple[Floats, NDArray[np.int64]]:
    """A scaled change with its scale made exact by those of some entries that have it, and which have."""
    own, slack, made = moved.change[both], moved.slack[both], scaled[both]
    scale = 1.0
    for _ in range(_REFINED):
        fits = np.flatnonzero(np.abs(own - scale * made) <= slack)
        size = float(made[fits] @ made[fits])
        if size == 0:
            break
        scale = float(own[fits] @ made[fits]) / size
    return scaled * scale, both[np.abs(own - scale * made) <= slack]


_REFINED = 2


def _chances(scales: Floats, at: Floats, term: _Term) -> Floats | float:
    """By what a change is divided: one number, or one for each entry, linear in the rank, as DELLA has it.

    Args:
        scales: ratios that stand out.
        at: ranks where they do, in [0, 1].
        term: the change.
    """
    alike = np.abs(1 / scales[:, None] - 1 / scales) < _CONSTANT / scales
    most = alike[
        :, int(np.argmax(alike.sum(0)))
    ]  # small changes are few ulps: their ratios mislead
    if len(scales) < _SLOPE_OF or most.mean() >= _MOSTLY:
        return float(np.median(1 / scales[most]))
    one, other = np.triu_indices(len(at), 1)
    slopes = (1 / scales[other] - 1 / scales[one]) / (at[other] - at[one])
    slope = float(np.median(slopes))  # Theil and Sen's: outliers do not move it
    ranks = _ranks(term.bucket, term.change)
    return np.maximum(float(np.median(1 / scales - slope * at)) + slope * ranks, _SMALLEST)


_SLOPE_OF = 4
_CONSTANT = 0.04
_MOSTLY = 0.5  # of the ratios, that are one number
_SMALLEST = 0.02


@once
def _entries(bucket: Bucket) -> NDArray[np.int64]:
    """The entries of matrices that are looked at, in order."""
    places = np.flatnonzero(bucket.counts > 0)
    return places[:: max(1, len(places) // _ENTRIES)]


@once
def _alike(bucket: Bucket) -> tuple[NDArray[np.int64], ...]:
    """Patches of which as many entries are looked at: where those are among all that are, (patches, entries) each."""
    ends = [[span.start, span.stop] for span in bucket.matrices()]
    groups: dict[int, list[int]] = {}
    for first, last in np.searchsorted(_entries(bucket), ends).tolist():
        groups.setdefault(last - first, []).append(first)
    return tuple(np.array(starts)[:, None] + np.arange(n) for n, starts in groups.items() if n)


@once
def _classes(bucket: Bucket, base: int, parent: int) -> NDArray[np.uint8]:
    """The class of the magnitude of each entry of a change, by its rank."""
    origin, values = bucket.values[[base, parent]][:, _entries(bucket)].astype(np.float64)
    return (_ranks(bucket, values - origin) * _RANKS).astype(np.uint8)


def _ranks(bucket: Bucket, values: Floats) -> Floats:
    """The rank of each entry's magnitude within its patch, in [0, 1): what DELLA draws by."""
    sizes, found = np.abs(values), np.zeros(len(values))
    for index in _alike(bucket):
        n = index.shape[1]
        order = np.argsort(sizes[index], axis=1, kind="stable")
        found[np.take_along_axis(index, order, axis=1)] = np.arange(n) / n
    return found


def _overlapping(peaks: Sequence[_Peak]) -> bool:
    """Tell whether one has no entries of its own: a child or a merge of a parent has the parent's."""
    for peak in peaks:
        others = np.logical_or.reduce([p.fits for p in peaks if p is not peak])
        if (peak.fits & ~others).sum() < _OWN * peak.fits.sum():
            return True
    return False

"""Merging: which models of a component are made of others, and of which.

Proofs come before likelihoods: exact sums first, the best proof first; then sums tensor by tensor; then masks; then what
a base shows that nobody has; then what was trained on. Of one relation among models only one is the child, and nobody is
made of what is made of him.
"""

from collections.abc import Mapping, Sequence

from engine.descent.absent import PRESENT, with_absent
from engine.descent.between import Between, between
from engine.descent.blend import Blend, blend
from engine.descent.bucket import Bucket
from engine.descent.combination import Combination, combinations_of
from engine.descent.masked import Masked, masked
from engine.descent.mosaic import Mosaic, mosaic
from engine.descent.piecewise import Piecewise, frankenmerge, piecewise

Merge = Combination | Piecewise | Masked | Mosaic | Blend | Between


def merges_of(bucket: Bucket, among: Sequence[int]) -> dict[int, Merge]:
    """Models that are made of others: child → how; a parent or base at ``len(bucket)`` is one that nobody has.

    Args:
        bucket: all models.
        among: places of those that may be made of each other.
    """
    makers = [i for i in among if not _has_equal(bucket, i, among)]
    accepted: dict[int, Merge] = {}
    _add_exact(bucket, makers, among, accepted)
    _add_piecewise(bucket, makers, among, accepted)
    free = _free(among, accepted)
    mosaics = [m for i in makers if i not in accepted and (m := mosaic(bucket, i, free))]
    _add_masked(bucket, accepted, _masks(bucket, makers, among, accepted), mosaics)
    mosaics = [m for m in mosaics if m.child not in accepted and not _is_cycle(accepted, m)]
    if mosaics:
        _add_without_base(bucket, makers, among, accepted, mosaics)
    _add_blends(bucket, makers, among, accepted)
    _add_between(bucket, makers, among, accepted)
    return accepted


def _free(among: Sequence[int], accepted: Mapping[int, Merge]) -> list[int]:
    """Those that are no merges."""
    return [i for i in among if i not in accepted]


def _add_piecewise(
    bucket: Bucket, makers: Sequence[int], among: Sequence[int], accepted: dict[int, Merge]
) -> None:
    """Accept what is put together tensor by tensor."""
    for child in makers:
        if child not in accepted:
            others = [i for i in among if not _above(accepted, i, child)]
            merge = frankenmerge(bucket, child, others) or piecewise(bucket, child, others)
            if merge is not None and not _is_cycle(accepted, merge):
                accepted[child] = merge


def _masks(
    bucket: Bucket, makers: Sequence[int], among: Sequence[int], accepted: Mapping[int, Merge],
    absent: int | None = None,
) -> list[Masked]:  # fmt: skip
    """Merges that took some entries of each parent, of which an absent base is none."""
    free = _free(among, accepted)
    found = (masked(bucket, child, free, absent) for child in makers if child not in accepted)
    return [mask for mask in found if mask is not None and absent not in mask.parents]


def _add_masked(
    bucket: Bucket, accepted: dict[int, Merge], masks: Sequence[Masked], mosaics: Sequence[Mosaic]
) -> None:
    """Accept masks, those that explain most first; where a mosaic shows the base's entries, the base has to have them."""
    shown = {m.child: m for m in mosaics if m.averaged}
    for mask in sorted(masks, key=lambda m: (-m.explained, m.child)):
        found = shown.get(mask.child)
        if found is not None and not _knows_more(mask, found):
            rest = found.rest
            same = bucket.values[mask.base, rest] == bucket.values[mask.child, rest]
            if not rest.any() or same.mean() < PRESENT:
                continue
        if not _is_cycle(accepted, mask):
            accepted[mask.child] = mask


def _knows_more(mask: Masked, found: Mosaic) -> bool:
    """Tell whether a mask explains a child by a further parent: what a mosaic of two takes for the base's is that one's, too."""
    return set(mask.parents) > set(found.parents) and mask.explained >= _WHOLLY


_WHOLLY = 0.97


def _add_without_base(
    bucket: Bucket, makers: Sequence[int], among: Sequence[int], accepted: dict[int, Merge],
    mosaics: Sequence[Mosaic],
) -> None:  # fmt: skip
    """Accept what a base shows that nobody has, and mosaics that show no base."""
    absent = len(bucket)
    given = {m.child for m in mosaics if m.averaged}
    for _ in range(_ROUNDS):
        proved = [m for m in accepted.values() if isinstance(m, Masked) and m.base == absent]
        wider = with_absent(bucket, mosaics, proved, among)
        if wider is None:
            break
        others = [i for i in among if i not in given]
        n_before = len(accepted)
        _add_exact(wider, makers, [*others, absent], accepted)
        ungiven = [i for i in makers if i not in given]
        masks = _masks(wider, ungiven, [*others, absent], accepted, absent)
        _add_masked(wider, accepted, masks, ())
        if len(accepted) == n_before:
            break
    for found in sorted(mosaics, key=lambda m: (-sum(m.shares), m.child)):
        if found.child not in accepted and not _is_cycle(accepted, found):
            accepted[found.child] = found


_ROUNDS = 3


def _add_blends(
    bucket: Bucket, makers: Sequence[int], among: Sequence[int], accepted: dict[int, Merge]
) -> None:
    """Accept what was merged and trained on, what changed least first."""
    left = [i for i in makers if i not in accepted]
    found = []
    for child in left:
        others = [i for i in among if not _above(accepted, i, child)]
        made = blend(bucket, child, others)
        if made is not None:
            found.append(made)
    for made in sorted(found, key=lambda b: (b.left, b.child)):
        if not _is_cycle(accepted, made):
            accepted[made.child] = made


def _add_between(
    bucket: Bucket, makers: Sequence[int], among: Sequence[int], accepted: dict[int, Merge]
) -> None:
    """Accept what lies between two others that are no merges, the clearest first."""
    free = _free(among, accepted)
    found = [between(bucket, child, free) for child in makers if child not in accepted]
    for made in sorted((m for m in found if m), key=lambda m: (m.likeness, m.child)):
        if not _is_cycle(accepted, made):
            accepted[made.child] = made


def _add_exact(
    bucket: Bucket, makers: Sequence[int], among: Sequence[int], accepted: dict[int, Merge]
) -> None:
    """Accept exact sums, the best match first, one for each set of models."""
    found = [exact for child in makers for exact in combinations_of(bucket, child, among)[:3]]
    related: set[frozenset[int]] = set()
    for merge in sorted(found, key=lambda c: (-c.match, len(c.parents), c.child)):
        both = frozenset((merge.child, *merge.parents))
        if merge.child not in accepted and both not in related and not _is_cycle(accepted, merge):
            accepted[merge.child] = merge
            related.add(both)


def _has_equal(bucket: Bucket, node: int, among: Sequence[int]) -> bool:
    """Tell whether another model has a node's entries but for rounding, with more rows or fewer."""
    limit = bucket.floors[node]
    return any(i != node and bucket.distances[node, i] <= limit for i in among)


def _above(accepted: dict[int, Merge], node: int, ancestor: int) -> bool:
    """Tell whether a node is made of another, over any number of merges."""
    if node == ancestor:
        return True
    merge = accepted.get(node)
    return merge is not None and any(_above(accepted, p, ancestor) for p in _makers(merge))


def _is_cycle(accepted: dict[int, Merge], merge: Merge) -> bool:
    """Tell whether a merge is made of what is made of it."""
    return any(_above(accepted, maker, merge.child) for maker in _makers(merge))


def _makers(merge: Merge) -> set[int]:
    """What a merge is made of: its parents, and the base of their changes."""
    return {*merge.parents} | ({merge.base} if merge.base is not None else set())

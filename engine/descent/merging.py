"""Merging: which models of a component are made of others, and of which.

Proofs come before likelihoods: exact sums first, the best proof first; then sums tensor by tensor; then masks. Of one
relation among models only one is the child, and nobody is made of what is made of him.
"""

from collections.abc import Sequence

from engine.descent.bucket import Bucket
from engine.descent.combination import Combination, combinations_of
from engine.descent.masked import Masked, masked
from engine.descent.piecewise import Piecewise, frankenmerge, piecewise

Merge = Combination | Piecewise | Masked


def merges_of(bucket: Bucket, among: Sequence[int]) -> dict[int, Merge]:
    """Models that are made of others: child → how.

    Args:
        bucket: all models.
        among: places of those that may be made of each other.
    """
    makers = [i for i in among if not _has_equal(bucket, i, among)]
    accepted: dict[int, Merge] = {}
    _add_exact(bucket, makers, among, accepted)
    for child in makers:
        if child not in accepted:
            others = [i for i in among if not _above(accepted, i, child)]
            merge = frankenmerge(bucket, child, others) or piecewise(bucket, child, others)
            if merge is not None and not _is_cycle(accepted, merge):
                accepted[child] = merge
    masks = []
    for child in makers:
        if child not in accepted:
            found = masked(bucket, child, [i for i in among if i not in accepted])
            if found is not None:
                masks.append(found)
    for mask in sorted(masks, key=lambda m: (-m.explained, m.child)):
        if not _is_cycle(accepted, mask):
            accepted[mask.child] = mask
    return accepted


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

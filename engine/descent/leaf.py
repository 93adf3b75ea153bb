"""Leaves: models that are others on a coarser grid, or with zeros in them."""

from collections.abc import Sequence

from engine.descent.bucket import Bucket
from engine.descent.kind import Change, leaf_kind


def leaves_of(bucket: Bucket, group: Sequence[int]) -> dict[int, int]:
    """Models that are others on a grid or with zeros: leaf → its parent."""
    found: dict[int, int] = {}
    for node in group:
        others = [i for i in group if i != node]
        if not others:
            continue
        near = sorted(others, key=lambda i: (bucket.costs[node, i], i))[:_TRIED]
        pruned = _unpruned(bucket, node, others)
        # the nearest may be a leaf as well
        for parent in near if pruned is None else [pruned, *near]:
            if leaf_kind(Change(bucket, parent, node)) is not None:
                found[node] = parent
                break
    for leaf in sorted(found):
        if found[leaf] in found:  # the parent of a leaf is none
            others = [i for i in group if i not in found]
            if others:
                found[leaf] = min(others, key=lambda i: (bucket.costs[leaf, i], i))
    return found


def _unpruned(bucket: Bucket, node: int, others: Sequence[int]) -> int | None:
    """The model that a node with many zeros equals where it has none; None where it has few."""
    counted = bucket.counts > 0
    own = bucket.values[node, counted]
    zero = own == 0
    if zero.mean() < _ZEROS or zero.all():
        return None
    return max(others, key=lambda i: float((bucket.values[i, counted][~zero] == own[~zero]).mean()))


_ZEROS = 0.05
_TRIED = 4

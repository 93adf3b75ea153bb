"""Ancestry: from models of one bucket to a graph of descent.

Merges first, for they bend every tree; then the least tree of what is left, with the parents that are missing; then
each model that is clearly nearer to a merge than to the tree becomes its child; quantised and pruned models are leaves; then
each tree gets its root, and each edge a kind.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from engine.descent.bucket import Bucket
from engine.descent.claims import SILENT, Places, contested, doubted, nearer
from engine.descent.hanging import hang
from engine.descent.kind import kind_between
from engine.descent.leaf import leaves_of
from engine.descent.likeness import likeness
from engine.descent.link import Link, link, merge_links
from engine.descent.margin import certainty, margins
from engine.descent.merging import Merge, merges_of
from engine.descent.rooting import rooted
from engine.descent.settling import settled
from engine.descent.tree import SIBLING, popular, spanning, with_latent

_LEAF = 0.97  # confidence of an edge to a leaf


@dataclass(frozen=True)
class Ancestry:
    """What was found.

    Attributes:
        links: all edges.
        latent: nodes that nobody has.
    """

    links: tuple[Link, ...]
    latent: tuple[int, ...]


def ancestry(bucket: Bucket, group: Sequence[int], claims: Places = SILENT) -> Ancestry:
    """The graph of one component of a bucket, none of whose models equals another.

    Args:
        bucket: all models.
        group: places of the component's.
        claims: (child, parent), what people say of its models.
    """
    leaves = leaves_of(bucket, group)
    inner = [i for i in group if i not in leaves]
    merges = merges_of(bucket, inner)
    plain = [i for i in inner if i not in merges]

    costs = nearer(bucket.costs, claims)
    skeleton = spanning(popular(costs, spanning(costs, plain)), plain)
    alike = partial(likeness, bucket)
    tree = with_latent(
        skeleton, bucket.costs, bucket.gram, alike, _aside(bucket, plain, merges, alike)
    )
    merges = settled(tree, merges)
    hang(bucket, tree, merges)
    nodes = [*plain, *tree.latent, *merges]
    margin = margins(bucket, tree, plain, merges)
    links = []
    for edge in rooted(bucket, tree, nodes, merges, claims):
        ends = min(edge.child, edge.parent), max(edge.child, edge.parent)
        links.append(link(bucket, edge, certainty(margin.get(ends))))
    for merge in merges.values():
        links += merge_links(merge)
    for leaf, parent in leaves.items():
        kind = kind_between(bucket, parent, leaf)
        links.append(Link(leaf, parent, kind, None, "parent", _LEAF))
    doubts = contested([(found.child, found.parent) for found in links], claims)
    links = [
        replace(found, confidence=doubted(found.confidence)) if found.child in doubts else found
        for found in links
    ]
    order = sorted(links, key=lambda found: (found.child, found.parent, found.role))
    return Ancestry(tuple(order), tuple(sorted(tree.latent)))


def _aside(
    bucket: Bucket, plain: Sequence[int], merges: Mapping[int, Merge],
    alike: Callable[[int, int, int], float],
) -> set[int]:  # fmt: skip
    """Models that no merge is made of, and that come from one: nearer to it than to any model that is none.

    So are siblings of what a merge is made of, where their parent is missing; but those are alike, seen from the merge.
    """
    makers = {p for merge in merges.values() for p in (*merge.parents, merge.base)}
    nearest: dict[int, int] = {}
    for v in plain:
        others = [p for p in plain if p != v]
        if v in makers or not merges or not others:
            continue
        merge = min(sorted(merges), key=lambda m: bucket.costs[v, m])
        if bucket.costs[v, merge] < bucket.costs[v, others].min():
            nearest[v] = merge
    return {
        v
        for v, merge in nearest.items()
        if all(alike(merge, v, u) < SIBLING for u in nearest if u != v)
    }

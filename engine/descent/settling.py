"""Settling: an absent base that merges have shown gets its place in the tree, among those that descend from it."""

from collections.abc import Mapping
from dataclasses import replace

from engine.descent.combination import Combination
from engine.descent.masked import Masked
from engine.descent.merging import Merge
from engine.descent.tree import Tree


def settled(tree: Tree, merges: Mapping[int, Merge]) -> dict[int, Merge]:
    """The merges, with the node of the tree that their absent base is; the tree is changed where it has none.

    It is the latent node most of their other parents are joined to, or a new one between those.

    Args:
        tree: of those that are no merges.
        merges: child → how it was made; a place of ``tree.n`` stands for the absent base.
    """
    absent = tree.n
    mates = {p for m in merges.values() if absent in _made_of(m) for p in m.parents}
    mates = {p for p in mates if p < absent and p not in merges}
    if not any(absent in _made_of(m) for m in merges.values()):
        return dict(merges)
    node = _node(tree, mates)
    return {child: _on(merge, absent, node) for child, merge in merges.items()}


def _made_of(merge: Merge) -> set[int | None]:
    """Its parents and its base."""
    return {*merge.parents, merge.base}


def _node(tree: Tree, mates: set[int]) -> int:
    """The latent node that is the base of most of some models; a new one where none is of two of them."""
    scores = {v: len(mates & set(tree.neighbours(v))) for v in sorted(tree.latent)}
    best = max(scores, key=lambda v: scores[v], default=None)
    if best is not None and scores[best] >= min(2, len(mates)):
        return best
    node = tree.n + len(tree.latent)
    tree.latent[node] = {}
    tree.edges = [edge for edge in tree.edges if not {*edge} <= mates]
    for mate in sorted(mates):
        if not _joined(tree, mate, node):
            tree.edges.append((mate, node))
            tree.latent[node][mate] = 0.0
    return node


def _joined(tree: Tree, a: int, b: int) -> bool:
    """Tell whether there is a way from a node to another."""
    seen, edge = {a}, [a]
    while edge:
        edge = [v for node in edge for v in tree.neighbours(node) if v not in seen]
        seen.update(edge)
    return b in seen


def _on(merge: Merge, absent: int, node: int) -> Merge:
    """A merge with a node in place of the absent base."""
    if isinstance(merge, Masked) and merge.base == absent:
        return replace(merge, base=node)
    if isinstance(merge, Combination):
        parents = tuple(node if p == absent else p for p in merge.parents)
        return replace(merge, parents=parents, base=node if merge.base == absent else merge.base)
    return merge

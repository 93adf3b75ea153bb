"""Margins: by how much the edges of a tree are cheaper than those that would take their places."""

from engine.descent.bucket import Bucket
from engine.descent.tree import Tree


def margins(bucket: Bucket, tree: Tree) -> dict[tuple[int, int], float]:
    """For each edge between models, the nats an entry that the next best edge over the same cut costs more.

    Relative to the edge's own cost: 0 where another is as good, and infinite where there is no other, or the edge costs
    nothing. Edges to latent parents have none.
    """
    found = {}
    for a, b in tree.edges:
        if b >= tree.n:
            continue
        sides = [[v for v in tree.side(*ends) if v < tree.n] for ends in ((a, b), (b, a))]
        table = bucket.costs[sides[0]][:, sides[1]].copy()
        own = float(bucket.costs[a, b])
        table[sides[0].index(a), sides[1].index(b)] = float("inf")
        found[a, b] = (float(table.min()) - own) / own if own > 0 else float("inf")
    return found

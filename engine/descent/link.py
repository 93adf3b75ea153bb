"""Links: the edges of a graph of descent, each with what it rests on."""

from dataclasses import dataclass

from engine.descent.between import Between
from engine.descent.blend import Blend
from engine.descent.bucket import Bucket
from engine.descent.combination import Combination
from engine.descent.kind import Kind, kind_between
from engine.descent.masked import Masked
from engine.descent.merging import Merge
from engine.descent.mosaic import Mosaic
from engine.descent.piecewise import Piecewise
from engine.descent.rooting import Oriented


@dataclass(frozen=True)
class Link:
    """An edge of the graph.

    Attributes:
        child, parent: nodes: places in the bucket, or latent ones behind them.
        kind: the relation, and what it rests on.
        coefficient: in a merge.
        role: parent, model or base.
        confidence: that edge and direction are right, in [0, 1].
        direction: the statistic; 0 where there is none.
    """

    child: int
    parent: int
    kind: Kind
    coefficient: float | None
    role: str
    confidence: float
    direction: float = 0.0


def link(bucket: Bucket, edge: Oriented, certainty: float = 1.0) -> Link:
    """A link of a tree; nodes that are not in the bucket are latent.

    Args:
        bucket: all models.
        edge: of the tree.
        certainty: probability that there is an edge, whatever its direction.
    """
    if max(edge.child, edge.parent) >= len(bucket):
        kind = Kind(
            "finetune",
            "siblings",
            0.0,
            "seen from any of its children, the others have that one's own change in common",
        )
    else:
        kind = _kind(bucket, edge.parent, edge.child)
    sure = certainty * edge.probability
    return Link(edge.child, edge.parent, kind, None, "parent", sure, edge.statistic)


def _kind(bucket: Bucket, parent: int, child: int) -> Kind:
    """The kind of an edge; more rows, and the others as they were, are a longer vocabulary."""
    kind = kind_between(bucket, parent, child)
    more = bucket.rows[child] - bucket.rows[parent]
    if more > 0 and kind.value <= _AS_IT_WAS:
        detail = f"{more} rows more, the others as they were"
        return Kind("vocab_extended", "more_rows", float(more), detail)
    return kind


_AS_IT_WAS = 0.01


def merge_links(merge: Merge) -> list[Link]:
    """The links of a merge to its parents, and to the base of their task vectors where there is one."""
    if isinstance(merge, Masked):
        return _masked_links(merge)
    if isinstance(merge, Blend):
        return _blend_links(merge)
    if isinstance(merge, Mosaic):
        return _mosaic_links(merge)
    if isinstance(merge, Between):
        return _between_links(merge)
    kind, sure = _proof(merge), _PROVED
    away = min(merge.weights) < 0 and len(merge.parents) == _PAIR
    links = []
    for parent, weight in zip(merge.parents, merge.weights, strict=True):
        role = "base" if parent == merge.base else "parent" if away else "model"
        links.append(Link(merge.child, parent, kind, weight, role, sure))
    return links


def _proof(merge: Combination | Piecewise) -> Kind:
    """What a merge is called that is proved entry by entry."""
    share = f"{merge.match:.1%} of the entries are"
    if isinstance(merge, Piecewise) and merge.whole:
        detail = "every tensor is one of the parents'"
        return Kind("frankenmerge", "match", merge.match, detail)
    if isinstance(merge, Piecewise):
        detail = (
            f"{share} the parents' weighted sum, with weights of its own for each tensor, rounded"
        )
        return Kind("merge", "match", merge.match, detail)
    if min(merge.weights) < 0 and len(merge.parents) == _PAIR:  # away from a task vector, or on
        most, least = merge.weights
        detail = f"{share} {most:g} of it and {least:g} of another, rounded"
        return Kind("edited", "match", merge.match, detail)
    detail = f"{share} the parents' weighted sum, rounded"
    return Kind("merge", "match", merge.match, detail)


def _masked_links(merge: Masked) -> list[Link]:
    """The links of a merge that took some entries of each parent."""
    detail = (
        f"{merge.explained:.0%} of the entries are one parent's change at one scale, a sum or a mean of some; "
        f"{merge.dropped:.0%} of what the parents changed was dropped"
    )
    kind = Kind("merge", "explained_share", merge.explained, detail)
    links = [
        Link(merge.child, parent, kind, scale, "model", _EXPLAINED)
        for parent, scale in zip(merge.parents, merge.scales, strict=True)
    ]
    return [*links, Link(merge.child, merge.base, kind, None, "base", _EXPLAINED)]


def _mosaic_links(merge: Mosaic) -> list[Link]:
    """The links of a merge that has entries of either parent as they are, of a base that is away."""
    shares = " and ".join(f"{share:.0%}" for share in merge.shares)
    detail = (
        f"{shares} of the entries in which its parents are far apart are one's and the other's exactly, "
        f"{merge.z:.0f} standard deviations above chance; the rest was dropped"
    )
    kind = Kind("merge", "taken_share", sum(merge.shares), detail)
    return [Link(merge.child, parent, kind, None, "model", _EXPLAINED) for parent in merge.parents]


def _between_links(merge: Between) -> list[Link]:
    """The links of a model that lies between two others."""
    detail = f"its parents lie on opposite sides of it, alike {merge.likeness:.2f}, and of no others' sides"
    kind = Kind("merge", "between", merge.likeness, detail)
    return [Link(merge.child, parent, kind, None, "model", _BETWEEN) for parent in merge.parents]


def _blend_links(merge: Blend) -> list[Link]:
    """The links of a merge that was trained on."""
    detail = (
        f"{merge.n_rows} rows, {merge.n_entries} entries in which its parents differ, still are their weighted sum, "
        "rounded; training changed the others"
    )
    kind = Kind("merge_trained", "untouched_entries", float(merge.n_entries), detail)
    return [
        Link(merge.child, parent, kind, weight, "model", _UNTOUCHED)
        for parent, weight in zip(merge.parents, merge.weights, strict=True)
    ]


_PAIR = 2
_PROVED = 0.99
_EXPLAINED = 0.97
_UNTOUCHED = 0.95
_BETWEEN = 0.9

"""Certifying: edges that sketches suggest are measured on the files of their ends, child by child."""

from collections.abc import Sequence
from dataclasses import replace

from engine.descent.component import Descent
from engine.descent.kind import Kind
from engine.descent.proof import is_refuted, of_pair, of_pieces, of_sum
from engine.descent.replay import Merge, replayed
from engine.descent.shelf import with_hint
from engine.descent.slab import Shared, shared
from engine.reader import Reader
from registry.catalog import Catalog
from registry.errors import BadAddress, CorruptCheckpoint, FileChanged, RunError, Unreadable
from registry.progress import SILENT, Progress


def certified(
    catalog: Catalog, edges: Sequence[Descent], *, progress: Progress = SILENT
) -> tuple[list[Descent], dict[str, str]]:
    """The same edges in the same order; what all entries tell of them takes the place of what samples told.

    Args:
        catalog: knows where the models are.
        edges: as inferred.
        progress: told of every child.

    Returns:
        The edges, and of children whose files, or whose parents', cannot be read, why.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for i, edge in enumerate(edges):
        groups.setdefault((edge.child, edge.kind.name), []).append(i)
    found, problems = list(edges), dict[str, str]()
    progress.start("prove", len(groups))
    for places in groups.values():
        kind = _proof(catalog, [edges[i] for i in places])
        progress.advance(1)
        if isinstance(kind, str):
            problems[edges[places[0]].child] = kind
        if kind is None or isinstance(kind, str):
            continue
        for i in places:
            sure = min(edges[i].confidence, _REFUTED if is_refuted(kind) else 1.0)
            found[i] = replace(edges[i], kind=kind, confidence=sure, scope="full")
    return found, problems


_REFUTED = 0.5  # confidence, at most, of an edge whose proof fails


def _proof(catalog: Catalog, edges: Sequence[Descent]) -> Kind | str | None:
    """What all entries tell of one child; None where they tell nothing, and why where they cannot be read."""
    kind = edges[0].kind
    edges = sorted(edges, key=lambda edge: edge.role != "base")  # in their order otherwise
    parents = [edge.parent for edge in edges]
    if any(parent.startswith("latent:") for parent in (*parents, edges[0].child)):
        return None
    try:
        tensors = shared(
            catalog.checkpoint(edges[0].child), [catalog.checkpoint(parent) for parent in parents]
        )
        return None if tensors is None else _measured(catalog, tensors, edges, kind)
    except (BadAddress, CorruptCheckpoint, FileChanged, RunError, Unreadable) as error:
        return with_hint(error)


def _measured(
    catalog: Catalog, tensors: Sequence[Shared], edges: Sequence[Descent], kind: Kind
) -> Kind | None:
    """The proof that suits a kind; edges and tensors have the base first, where there is one."""
    weights = [edge.coefficient for edge in edges if edge.coefficient is not None]
    with Reader() as reader:
        if kind.statistic == "explained_share" and edges[0].role == "base":
            ids = [edge.parent for edge in edges]
            merge = Merge(edges[0].child, ids[0], tuple(ids[1:]), tuple(weights))
            return replayed(catalog, reader, tensors, merge, kind)
        if kind.statistic == "match" and len(edges) > 1:
            if kind.name == "frankenmerge":
                return of_pieces(reader, tensors, kind)
            return of_sum(reader, tensors, kind, weights) if len(weights) == len(edges) else None
        return of_pair(reader, tensors, kind) if len(edges) == 1 else None

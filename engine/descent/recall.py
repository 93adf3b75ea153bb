"""Recall: what was found of components before, so that only those are inferred again whose models changed."""

import json
from collections.abc import Iterable, Mapping

from engine.descent.component import Component, Descent
from engine.descent.kind import Kind
from registry.catalog import Catalog, Columns, now
from registry.database import Transaction
from registry.records import Component as ComponentRow


def recalled(catalog: Catalog, spec: str) -> dict[str, Component]:
    """The components that were found from sketches of these rules, by key."""
    rows = catalog.rows("select id, found from store.component where spec = ?", [spec])
    return {row["id"]: _parsed(row["found"]) for row in rows}


def remember(
    transaction: Transaction, spec: str, parts: Mapping[str, Component], known: Iterable[str]
) -> None:
    """Keep these components, and none else of these rules.

    Args:
        transaction: of the catalog.
        spec: the rules of their sketches.
        parts: all there are, by key.
        known: keys that the catalog has.
    """
    known = set(known)
    gone = sorted(known - parts.keys())
    transaction.execute(
        "delete from store.component where spec = ? and id in (select store.each(?))", [spec, gone]
    )
    columns = Columns()
    columns.add(
        ComponentRow(id=key, spec=spec, found=_written(part), inferred_at=now())
        for key, part in parts.items() if key not in known
    )  # fmt: skip
    columns.insert(transaction, "replace")


def _written(part: Component) -> str:
    """A component as JSON; numbers come back bit for bit."""
    edges = [
        [
            e.child, e.parent, [e.kind.name, e.kind.statistic, e.kind.value, e.kind.detail],
            e.coefficient, e.role, e.confidence, e.direction,
        ]
        for e in part.edges
    ]  # fmt: skip
    return json.dumps([edges, part.latent, part.root, part.blanks])


def _parsed(text: str) -> Component:
    """A component that was written."""
    edges, latent, root, *blanks = json.loads(text)
    made = tuple(Descent(child, parent, Kind(*kind), *rest) for child, parent, kind, *rest in edges)
    return Component(made, tuple(latent), root, *map(tuple, blanks))

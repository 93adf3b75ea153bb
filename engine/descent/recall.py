"""Recall: what was found of components before, so that only those are inferred again whose models changed."""

import json
from collections.abc import Iterable, Mapping

from engine.descent.clan import Clan, Clans
from engine.descent.component import Component, Descent, rules
from engine.descent.kind import Kind
from engine.descent.twin import Double
from registry.catalog import Catalog, Columns, now
from registry.database import Transaction
from registry.records import Clans as ClansRow
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


def recalled_clans(catalog: Catalog, spec: str) -> Clans:
    """The clans that today's rules found of sketches of a spec; none where other rules did."""
    rows = catalog.rows(
        "select found from store.clans where spec = ? and rules = ?", [spec, rules()]
    )
    if not rows:
        return Clans()
    found, unsound = json.loads(rows[0]["found"])
    return Clans(
        {
            key: tuple(
                Clan(tuple(lines), tuple(part), tuple(Double(*twin) for twin in twins))
                for lines, part, twins in clans
            )
            for key, clans in found.items()
        },
        unsound,
    )


def remember_clans(transaction: Transaction, spec: str, clans: Clans) -> None:
    """Keep these clans in place of those that were kept of a spec."""
    found = {
        key: [
            [clan.lines, clan.part, [[t.model, t.of, t.kind, t.lossy] for t in clan.twins]]
            for clan in some
        ]
        for key, some in clans.found.items()
    }
    columns = Columns()
    text = json.dumps([found, clans.unsound])
    columns.add([ClansRow(spec=spec, rules=rules(), found=text, inferred_at=now())])
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

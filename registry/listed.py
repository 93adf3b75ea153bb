"""Models known only from a listing: their declared edges, and how they give way to models whose files were read.

A hub has millions of repositories, so what concerns all of them is done in SQL; `registry.resolve` looks at every
other claim one by one. A listed node gives way when exactly one model bears its name (of several, that of the commit
that was listed): the listing becomes an address of that model, and what it claims is claimed of it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence

from registry.catalog import Columns, now
from registry.claims import RELATIONS
from registry.database import Row, Transaction
from registry.fingerprint import digest_text
from registry.named import NAME_DIGEST, latent_row, node, plain
from registry.numbering import NEXT_NUMBER

SOURCE = "listing"
"""Source of addresses and claims that come from listings."""

TRUST = 0.85
"""How far a listing is believed: it repeats cards, as they once were."""

_SAYS = """[{"predicate": "VARCHAR", "object": "VARCHAR", "relation": "VARCHAR", "raw": "VARCHAR", "node": "VARCHAR"}]"""

_PARENTS = f"""
create or replace temp table parents as
select child, kind, said.node as parent, min(said.object) as name,
       min(said.relation) filter (said.relation in (select store.each(?))) as relation
from (
    select r.id as child, r.kind, unnest(from_json(a.says, '{_SAYS}')) as said
    from store.address a join redone r on r.id = a.model_id where a.source = '{SOURCE}' and a.says is not null
)
where said.predicate = 'base_model' and said.node <> child group by all"""

_LATENT = f"""
insert into store.model by name
select parent as id, 'model' as kind, 'latent' as status, ? as digest_name, cast(? as timestamptz) as created_at,
       min(name) as called, {NEXT_NUMBER} + row_number() over (order by parent) as number
from parents where parent not in (select id from store.model) group by parent order by parent"""

_NAMED = """
update store.model set called = p.name from (select parent, min(name) as name from parents group by parent) p
where model.id = p.parent and model.status = 'latent' and model.called is null"""

# The children of one parent lie side by side: there may be many of them, and who asks for one of them asks for all.
_EDGES = """
insert into store.edge by name
with merged as (
    select child from parents group by child having count(*) > 1
), told as (
    select child, parent, coalesce(relation, case when kind = 'adapter' then 'adapter'
           when child in (select child from merged) then 'merge' else 'finetune' end) as relation
    from parents
)
select child, parent, relation, case relation when 'merge' then 'model' else 'parent' end as role,
       'declared' as status, cast(? as double) as confidence, cast(? as timestamptz) as created_at,
       c.number as child_number, p.number as parent_number
from told join store.model c on c.id = child join store.model p on p.id = parent order by p.number, c.number"""

_GIVEN = "select store.each(?)"
_LISTED = "select id from store.model where status = 'listed'"


def declare(transaction: Transaction, children: str, ids: Sequence[str] = ()) -> None:
    """Write the declared edges of listed models anew, with the latent models that they name.

    Args:
        transaction: to write in.
        children: query of the ids of models; those that are not listed are left out.
        ids: its one parameter.
    """
    transaction.execute(
        "create or replace temp table redone as select id, kind from store.model "
        f"where status = 'listed' and id in ({children})",
        [list(ids)] if "?" in children else [],
    )
    transaction.execute(
        "delete from store.edge where status = 'declared' and child in (select id from redone)"
    )
    transaction.execute(_PARENTS, [list(RELATIONS)])
    transaction.execute(_LATENT, [NAME_DIGEST, now()])
    transaction.execute(_NAMED)
    transaction.execute(_EDGES, [TRUST, now()])
    for table in ("redone", "parents"):
        transaction.execute(f"drop table {table}")


def give_way(transaction: Transaction, places: Iterable[Row]) -> dict[str, str]:
    """Let nodes that are known by name alone give way to models that bear their names.

    Args:
        transaction: to write in.
        places: name, uri and model_id of every address of models whose files were read; a place may have many names.

    Returns:
        Name, as `registry.named.plain` leaves it → the one model that bears it.
    """
    take_back(transaction, _unplaced(transaction))
    shown: dict[str, set[tuple[str, str]]] = {}
    for place in places:
        shown.setdefault(plain(place["name"]), set()).add((place["uri"], place["model_id"]))
    if not shown:
        return {}
    listings = transaction.rows(
        "select uri, revision, model_id, lower(name) as name, says from store.address "
        "where source = ? and lower(name) in (select store.each(?)) order by 1",
        [SOURCE, sorted(shown)],
    )
    revisions = {row["name"]: row["revision"] for row in listings}
    found = {name: _bearer(at, revisions.get(name)) for name, at in sorted(shown.items())}
    bearers = {name: model for name, model in found.items() if model}
    moved = [
        row | {"model_id": bearers[row["name"]]}
        for row in listings
        if bearers.get(row["name"], row["model_id"]) != row["model_id"]
    ]
    _move(transaction, moved, {node(name): model for name, model in bearers.items()})
    return bearers


def take_back(transaction: Transaction, models: Sequence[str]) -> None:
    """Make listed nodes again of the listings of models that are nowhere any more, and of what listings say of them."""
    if not models:
        return
    rows = transaction.rows(
        f"select uri, name, listed_kind from store.address where source = '{SOURCE}' "
        "and model_id in (select store.each(?)) order by 1",
        [list(models)],
    )
    children = transaction.rows(
        f"select distinct child from store.edge where parent in (select store.each(?)) and child in ({_LISTED}) "
        "order by 1",
        [list(models)],
    )
    columns = Columns()
    columns.add_rows(
        "model",
        [
            latent_row(node(r["name"]))
            | {"kind": r["listed_kind"], "status": "listed", "called": r["name"]}
            for r in rows
        ],
    )
    columns.insert(transaction, "replace")
    pairs = {row["uri"]: node(row["name"]) for row in rows}
    _readdress(transaction, pairs)
    transaction.execute(
        f"delete from store.claim where source = '{SOURCE}' and uri in (select store.each(?))",
        [list(pairs)],
    )
    again = {row["child"] for row in children} | set(pairs.values())
    declare(transaction, _GIVEN, sorted(again))


def _unplaced(transaction: Transaction) -> list[str]:
    """Models that have no place left but are still what listings, or children that are only listed, speak of."""
    rows = transaction.rows(
        "select id from store.model m where status not in ('latent', 'listed') "
        f"and not exists (select 1 from store.address a where a.model_id = m.id and a.source <> '{SOURCE}') "
        "and (exists (select 1 from store.address a where a.model_id = m.id) or exists (select 1 from store.edge e "
        f"where e.parent = m.id and e.status = 'declared' and e.child in ({_LISTED}))) order by 1"
    )
    return [row["id"] for row in rows]


def _bearer(places: Iterable[tuple[str, str]], revision: str | None) -> str | None:
    """The one model that bears a name; of several, that of the commit that was listed; None where that is open."""
    places = list(places)
    models = {model for _, model in places}
    if len(models) > 1:
        models = {model for uri, model in places if revision and uri.endswith(f"@{revision}")}
    return next(iter(models)) if len(models) == 1 else None


def _readdress(transaction: Transaction, pairs: Mapping[str, str]) -> None:
    """Make listings addresses of other models: uri → model."""
    transaction.execute(
        "update store.address set model_id = new, model_number = null from (select store.each(?) as uri, store.each(?) as new) moved "
        "where address.uri = moved.uri",
        [list(pairs), list(pairs.values())],
    )


def _move(transaction: Transaction, moved: Sequence[Row], nodes: Mapping[str, str]) -> None:
    """Give listings to models, with what they claim, and the children of name nodes too, node → model."""
    if moved:
        _readdress(transaction, {row["uri"]: row["model_id"] for row in moved})
        columns = Columns()
        columns.add_rows("claim", [claim for row in moved for claim in _claims(row)])
        columns.insert(transaction, "replace")
    transaction.execute(
        "create or replace temp table gone as select store.each(?) as old, store.each(?) as new",
        [list(nodes), list(nodes.values())],
    )
    of_listed = f"status = 'declared' and parent in (select old from gone) and child in ({_LISTED})"
    if transaction.rows(f"select 1 from store.edge where {of_listed} limit 1"):
        transaction.execute(
            "insert or ignore into store.edge by name select child, new as parent, relation, role, status, coefficient, "
            f"confidence, run_id, created_at from store.edge join gone on old = parent where {of_listed}"
        )
        transaction.execute(f"delete from store.edge where {of_listed}")
    rows = transaction.rows(
        f"select id from gone join ({_LISTED}) on id = old "
        "where not exists (select 1 from store.address where model_id = old) order by 1"
    )
    if left := [row["id"] for row in rows]:
        transaction.execute(
            f"delete from store.edge where status = 'declared' and child in ({_GIVEN})", [left]
        )
        transaction.execute(f"delete from store.model where id in ({_GIVEN})", [left])
    transaction.execute("drop table gone")


def _claims(listing: Row) -> list[Row]:
    """The rows of what a listing claims of the model that it is an address of."""
    said = json.loads(listing["says"]) if listing["says"] else []
    return [
        {
            "id": digest_text(f"{listing['uri']}\0{SOURCE}\0{one['predicate']}\0{one['object']}"),
            "uri": listing["uri"], "model_id": listing["model_id"], "predicate": one["predicate"],
            "object": one["object"], "relation": one.get("relation"), "coefficient": None, "source": SOURCE,
            "raw": one["raw"], "resolved_id": None,
        }
        for one in said
    ]  # fmt: skip

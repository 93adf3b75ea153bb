"""From claims to declared edges: who is meant by what cards, configs and recipes say.

A claim names its parent as people do: a hub name, a path, a folder. Each is looked up among the known models;
what is found becomes a declared edge with the claim as its evidence. A name that nobody has shown becomes a
latent model, so that siblings who claim the same missing base are still found to be siblings. A name that was
understood once stays so when its files are gone. A model that names itself says nothing.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from registry import listed
from registry.catalog import Columns, now
from registry.claims import RELATIONS
from registry.database import Row, Transaction
from registry.fingerprint import digest_text
from registry.named import NAME_DIGEST, latent_row, node, plain

_TRUST = {
    "sidecar": 0.99,
    "mergekit_config": 0.95,
    "adapter_config": 0.95,
    "card": 0.9,
    listed.SOURCE: listed.TRUST,
    "gguf": 0.85,
    "metadata": 0.8,
    "config": 0.7,
}
"""How far each kind of claim is believed, best first: its order also decides whose relation an edge takes."""

_RANK = {source: i for i, source in enumerate(_TRUST)}

_SAME_WORDS = {listed.SOURCE: "card"}
"""Sources that repeat what another one says: together they count as one."""

_BY_LAST_WORD = 0.9
"""Factor on the trust of a claim that only the last part of a name could resolve."""

_NAMES_ROLES = ("sidecar", "mergekit_config")
"""Sources that keep the base apart from the models that were merged into it."""

_UNRESOLVED = "claims"
"""Key of `store.setting` that is there while claims wait to be resolved."""

_VERSION = "1"


@dataclass
class _Reason:
    """One claim behind an edge: how far it is believed, and how its words were understood."""

    claim: Row
    trust: float
    how: str


@dataclass
class _Names:
    """The known models by everything a claim may call them."""

    exact: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    last: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    kind: dict[str, str] = field(default_factory=dict)
    signature: dict[str, str | None] = field(default_factory=dict)

    def resolve(self, claim: Row) -> tuple[str | None, float, str]:
        """(id of the model that is meant or None, factor on the trust, how it was found)."""
        me, name = claim["model_id"], plain(claim["object"])
        if name.startswith("digest:"):
            digest = name.removeprefix("digest:")
            return (digest, 1.0, "found by digest") if digest in self.kind else (None, 1.0, "")
        for key in (claim["object"].rstrip("/"), name):
            known = self.exact.get(key, set())
            if len(known) == 1 or len(known - {me}) == 1:
                return min(known - {me}, default=me), 1.0, "found by name"
        last = PurePosixPath(name).name
        if self.last.get(last) == {me} and claim["source"] == "config":
            return me, 1.0, "its own name"  # of the folder in which it was trained
        fitting = [m for m in self.last.get(last, set()) - {me} if self._fits(claim, m)]
        if len(fitting) == 1:
            return fitting[0], _BY_LAST_WORD, "found by the last part of its name"
        if not fitting and claim["resolved_id"] in self.kind:
            return claim["resolved_id"], _BY_LAST_WORD, "found when it was last seen"
        return None, 1.0, ""

    def _fits(self, claim: Row, candidate: str) -> bool:
        """An adapter fits any model, as does what was quantised, since it has other tensors; others those of their signature."""
        mine = self.signature.get(claim["model_id"])
        other = claim["kind"] == "adapter" or claim["relation"] == "quantized"
        same = other or mine == self.signature.get(candidate)
        return same and self.kind[candidate] == "model"


def mark_unresolved(transaction: Transaction) -> None:
    """Note that addresses or claims changed, so that `resolve_claims` is due even if this process is killed."""
    transaction.insert("setting", {"key": [_UNRESOLVED], "value": ["unresolved"]}, "nothing")


def is_unresolved(settings: Iterable[Row]) -> bool:
    """Tell from the rows of `store.setting` whether `resolve_claims` is due."""
    return any(row["key"] == _UNRESOLVED for row in settings)


def resolve_claims(transaction: Transaction) -> None:
    """Bring the declared edges in line with all claims; rows that are right already are not written.

    Recorded, measured and inferred edges are not touched. Latent models that no claim names any more disappear. The
    edges of models known only from a listing are those of `registry.listed`; they are looked at only where what they
    name has come or gone.
    """
    names = _known_names(transaction)
    claims = transaction.rows(
        "select c.*, m.kind from store.claim c join store.model m on m.id = c.model_id "
        "where predicate in ('base_model', 'merge_parent') order by c.id"
    )
    latent: dict[str, list[_Reason]] = defaultdict(list)
    meant: dict[tuple[str, str], list[_Reason]] = defaultdict(list)
    changed = []
    for claim in claims:
        parent, factor, how = names.resolve(claim)
        parent = parent or node(claim["object"])
        target = None if parent == claim["model_id"] else parent
        if target != claim["resolved_id"]:
            changed.append({**claim, "resolved_id": target})
        if target:
            reason = _Reason(claim, _TRUST[claim["source"]] * factor, how)
            meant[claim["model_id"], target].append(reason)
            if not how:
                latent[target].append(reason)
    known = transaction.rows(
        "select id from store.model where status = 'listed' and id in (select store.each(?))",
        [sorted(latent)],
    )
    in_listing = {row["id"] for row in known}
    for parent, reasons in latent.items():
        for reason in reasons:
            reason.how = "found in a listing" if parent in in_listing else "nobody has shown it"
    _write(transaction, set(latent) - in_listing, meant, changed)
    transaction.execute(
        "delete from store.model where status = 'latent' and digest_name = ? and not exists "
        "(select 1 from store.edge where parent = model.id)",
        [NAME_DIGEST],
    )
    transaction.execute("delete from store.setting where key = ?", [_UNRESOLVED])


def _known_names(transaction: Transaction) -> _Names:
    """Everything that every shown model is called; listed nodes of these names give way."""
    names = _Names()
    models = "select id, kind, signature from store.model where status not in ('latent', 'listed')"
    for row in transaction.rows(models):
        names.kind[row["id"]] = row["kind"]
        names.signature[row["id"]] = row["signature"]
    places = []
    for row in transaction.rows(
        "select uri, root, name, source, model_id from store.address where source <> ?",
        [listed.SOURCE],
    ):
        model, name = row["model_id"], row["name"].lower()
        called = [name]
        if row["source"] == "local":
            called.append("/".join(PurePosixPath(row["root"]).parts[-2:]).lower())
        for key in (row["uri"], row["root"], *called):
            names.exact[key].add(model)
        places += [{"name": key, "uri": row["uri"], "model_id": model} for key in called]
        names.last[PurePosixPath(name).name].add(model)
    for name, model in listed.give_way(transaction, places).items():
        names.exact[name] = {model}
    return names


def _write(
    transaction: Transaction,
    latent: set[str],
    meant: dict[tuple[str, str], list[_Reason]],
    changed: list[Row],
) -> None:
    """Write what differs from the declared edges, evidence and latent models that are there."""
    lists: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for (child, parent), reasons in meant.items():
        for reason in reasons:
            lists[child, reason.claim["uri"], reason.claim["source"]].add(parent)
    merges = {child for (child, _, _), parents in lists.items() if len(parents) > 1}
    edges = [_edge(pair, reasons, pair[0] in merges) for pair, reasons in meant.items()]
    evidence = [
        row for edge in edges for row in _evidence(edge, meant[edge["child"], edge["parent"]])
    ]
    columns = Columns()
    columns.add_rows("model", (latent_row(model) for model in sorted(latent)))
    columns.insert(transaction, "nothing")
    columns.add_rows("claim", ({k: v for k, v in row.items() if k != "kind"} for row in changed))
    others = "child not in (select id from store.model where status = 'listed')"
    for table, where, rows in (
        ("edge", f"status = 'declared' and {others}", edges),
        ("evidence", "method = 'claim'", evidence),
    ):
        columns.add_rows(table, _replace(transaction, table, where, rows))
    columns.insert(transaction, "replace")


def _replace(transaction: Transaction, table: str, where: str, rows: list[Row]) -> list[Row]:
    """Delete the stored rows that are not among ``rows``; return those of ``rows`` that are not stored.

    Rows that differ only in the time when they were made are the same.
    """
    names = [name for name in rows[0] if name != "created_at"] if rows else []
    wanted = {tuple(row[name] for name in names): row for row in rows}
    stale = [
        row["rowid"]
        for row in transaction.rows(f"select rowid, * from store.{table} where {where}")
        if wanted.pop(tuple(row[name] for name in names), None) is None
    ]
    if stale:
        transaction.execute(
            f"delete from store.{table} "
            "where rowid in (select cast(id as bigint) from (select store.each(?) as id))",
            [stale],
        )
    return list(wanted.values())


def _edge(pair: tuple[str, str], reasons: list[_Reason], is_merge: bool) -> Row:  # noqa: FBT001
    """One declared edge from all claims that say it; the most trusted claim decides the relation.

    Claims of one kind count once, however often they were copied.
    """
    claims = sorted((r.claim for r in reasons), key=lambda c: (_RANK[c["source"]], c["id"]))
    stated = (str(c["relation"]).lower() for c in claims)
    relation = next((r for r in stated if r in RELATIONS), None)
    if relation is None:
        is_adapter = claims[0]["kind"] == "adapter"
        relation = "adapter" if is_adapter else "merge" if is_merge else "finetune"
    role = "parent"
    if relation == "merge":
        bases = (c["source"] in _NAMES_ROLES for c in claims if c["predicate"] == "base_model")
        role = "base" if any(bases) else "model"
    trust: dict[str, float] = defaultdict(float)
    for reason in reasons:
        source = str(reason.claim["source"])
        words = _SAME_WORDS.get(source, source)
        trust[words] = max(trust[words], reason.trust)
    return {
        "child": pair[0], "parent": pair[1], "relation": relation, "role": role, "status": "declared",
        "coefficient": next((c["coefficient"] for c in claims if c["coefficient"] is not None), None),
        "confidence": round(1.0 - math.prod(1.0 - t for t in sorted(trust.values())), 4),
        "run_id": None, "created_at": now(),
    }  # fmt: skip


def _evidence(edge: Row, reasons: Iterable[_Reason]) -> list[Row]:
    """One row per claim behind an edge."""
    return [
        {
            "id": digest_text(f"claim\0{reason.claim['id']}\0{edge['parent']}"),
            **{name: edge[name] for name in ("child", "parent", "relation", "status")},
            "method": "claim", "version": _VERSION, "statistic": "trust", "value": reason.trust,
            "scope": "header",
            "detail": f"{reason.claim['source']} says {reason.claim['object']}: {reason.how}",
        }
        for reason in reasons
    ]  # fmt: skip

"""From claims to declared edges: who is meant by what cards, configs and recipes say.

A claim names its parent as people do: a hub name, a path, a folder. Each is looked up among the known models;
what is found becomes a declared edge with the claim as its evidence. A name that nobody has shown becomes a
latent model, so that siblings who claim the same missing base are still found to be siblings.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from registry.catalog import Columns, now
from registry.database import Row, Transaction
from registry.fingerprint import digest_text
from registry.records import Claim, Edge, Evidence, Model

_TRUST = {
    "sidecar": 0.99,
    "mergekit_config": 0.95,
    "adapter_config": 0.95,
    "card": 0.9,
    "metadata": 0.8,
    "config": 0.7,
}
"""How far each kind of claim is believed, best first: its order also decides whose relation an edge takes."""

_BY_LAST_WORD = 0.9
"""Factor on the trust of a claim that only the last part of a name could resolve."""

_VERSION = "1"


@dataclass
class _Names:
    """The known models by everything a claim may call them."""

    exact: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    last: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    signature: dict[str, str | None] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)

    def resolve(self, claim: Row) -> tuple[str | None, float, str]:
        """(model id or None, factor on the trust, how it was found)."""
        text = str(claim["object"]).rstrip("/")
        if text.startswith("digest:"):
            digest = text.removeprefix("digest:")
            return (digest, 1.0, "by digest") if digest in self.ids else (None, 1.0, "")
        name = text.removeprefix("hf://").split("@", 1)[0].lower()
        for known in (self.exact.get(text), self.exact.get(name)):
            if known and len(known - {claim["model_id"]}) == 1:
                return next(iter(known - {claim["model_id"]})), 1.0, "by name"
        candidates = self.last.get(PurePosixPath(name).name, set()) - {claim["model_id"]}
        fitting = sorted(m for m in candidates if self._fits(claim, m))
        if len(fitting) == 1:
            return fitting[0], _BY_LAST_WORD, "by the last part of its name"
        return None, 1.0, ""

    def _fits(self, claim: Row, candidate: str) -> bool:
        """An adapter fits any model; other models fit those of their own signature."""
        mine = self.signature.get(claim["model_id"])
        return claim["kind"] == "adapter" or mine == self.signature.get(candidate)


def resolve_claims(transaction: Transaction) -> None:
    """Make the declared edges anew from all claims.

    Recorded, measured and inferred edges are not touched. Latent models that no claim names any more disappear.
    """
    claims = transaction.rows(
        "select c.*, m.kind from store.claim c join store.model m on m.id = c.model_id "
        "where predicate in ('base_model', 'merge_parent') order by c.id"
    )
    names = _known_names(transaction)
    latent: dict[str, Model] = {}
    meant: dict[tuple[str, str], list[tuple[Row, float, str]]] = defaultdict(list)
    changed = []
    for claim in claims:
        parent, factor, how = names.resolve(claim)
        if parent is None:
            parent, how = digest_text(f"latent\0{claim['object']}"), "nobody has shown it"
            latent[parent] = _latent(parent)
        if parent != claim["resolved_id"]:
            changed.append({**claim, "resolved_id": parent})
        meant[claim["model_id"], parent].append((claim, _TRUST[claim["source"]] * factor, how))
    _write(transaction, latent, meant, changed)


def _known_names(transaction: Transaction) -> _Names:
    """Everything that every shown model is called."""
    names = _Names()
    for row in transaction.rows("select id, signature from store.model where status <> 'latent'"):
        names.ids.add(row["id"])
        names.signature[row["id"]] = row["signature"]
    for row in transaction.rows("select uri, root, name, model_id from store.address"):
        model = row["model_id"]
        for key in (row["uri"], row["root"], str(row["name"]).lower()):
            names.exact[key].add(model)
        if row["source"] == "local" if "source" in row else not row["uri"].startswith("hf-cache:"):
            parts = PurePosixPath(row["root"]).parts
            names.exact["/".join(parts[-2:]).lower()].add(model)
        names.last[PurePosixPath(str(row["name"]).lower()).name].add(model)
    return names


def _latent(model_id: str) -> Model:
    """A model that is only known by what others call it."""
    return Model(
        id=model_id, kind="model", status="latent", digest_name="blake3-name-1", signature=None,
        dtype=None, n_params=None, n_bytes=None, n_tensors=None, created_at=now(),
    )  # fmt: skip


def _write(
    transaction: Transaction,
    latent: dict[str, Model],
    meant: dict[tuple[str, str], list[tuple[Row, float, str]]],
    changed: list[Row],
) -> None:
    """Replace all declared edges and their evidence."""
    transaction.execute("delete from store.edge where status = 'declared'")
    transaction.execute("delete from store.evidence where method = 'claim'")
    transaction.execute("delete from store.model where status = 'latent'")
    columns = Columns()
    columns.add(latent.values())
    columns.add(Claim(**{k: v for k, v in row.items() if k != "kind"}) for row in changed)
    bases: dict[str, set[str]] = defaultdict(set)
    for child, parent in meant:
        bases[child].add(parent)
    for (child, parent), reasons in meant.items():
        edge = _edge(child, parent, reasons, several=len(bases[child]) > 1)
        columns.add([edge])
        columns.add(_evidence(edge, reasons))
    columns.insert(transaction, "replace")


def _edge(
    child: str, parent: str, reasons: list[tuple[Row, float, str]], *, several: bool
) -> Edge:
    """One declared edge from all claims that say it; the most trusted claim decides the relation."""
    order = list(_TRUST)
    best = min((claim for claim, _, _ in reasons), key=lambda c: order.index(c["source"]))
    stated = [c["relation"] for c, _, _ in reasons if c["relation"]]
    relation = best["relation"] or (stated[0] if stated else None)
    if relation is None:
        relation = "adapter" if best["kind"] == "adapter" else "merge" if several else "finetune"
    role = "parent"
    if relation == "merge":
        role = "base" if best["predicate"] == "base_model" and _names_roles(best) else "model"
    doubt = 1.0
    for _, trust, _ in reasons:
        doubt *= 1.0 - trust
    return Edge(
        child=child, parent=parent, relation=relation, role=role, status="declared",
        coefficient=next((c["coefficient"] for c, _, _ in reasons if c["coefficient"] is not None), None),
        confidence=round(1.0 - doubt, 4), run_id=None, created_at=now(),
    )  # fmt: skip


def _names_roles(claim: Row) -> bool:
    """Tell whether this source keeps the base apart from the merged models."""
    return claim["source"] in ("sidecar", "mergekit_config")


def _evidence(edge: Edge, reasons: Iterable[tuple[Row, float, str]]) -> list[Evidence]:
    """One row per claim behind an edge."""
    return [
        Evidence(
            id=digest_text(f"claim\0{claim['id']}\0{edge.parent}"),
            child=edge.child, parent=edge.parent, relation=edge.relation, status=edge.status,
            method="claim", version=_VERSION, statistic="trust", value=trust, scope="header",
            detail=f"{claim['source']} says {claim['object']}, found {how}",
        )
        for claim, trust, how in reasons
    ]  # fmt: skip

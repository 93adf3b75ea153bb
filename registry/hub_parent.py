"""The parents of a model as its card on the Hub may name them: by repositories, never by folders of this machine."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from registry.card import hub_ids
from registry.catalog import ID_DIGITS, Catalog
from registry.database import Row
from registry.names import CACHE, HUB

_STRENGTH = ("recorded", "measured", "declared")
"""Statuses of edges that a card may state, best first; what is only inferred from weights is not stated."""

_RELATIONS = {
    "merge": "merge", "frankenmerge": "merge", "adapter": "adapter", "quantized": "quantized",
    "finetune": "finetune", "continued_pretrain": "finetune",
}  # fmt: skip
"""Our words for a relation → those that the Hub knows."""

_LEAST_CONFIDENCE = 0.5  # an edge that is less likely right than wrong is not stated
_STATED = ("card", "adapter_config", "mergekit_config", "metadata", "listing")


@dataclass(frozen=True)
class HubParent:
    """One parent of a model.

    Attributes:
        id: of the parent.
        name: what people call it; no path.
        repository: "org/name" on the Hub; None for one that is only here.
        relation: how the model came of it.
        role: parent, base or model.
        coefficient: in a merge; None where it has none.
        status: recorded, measured or declared.
    """

    id: str
    name: str
    repository: str | None
    relation: str
    role: str
    coefficient: float | None
    status: str

    @property
    def digest(self) -> str:
        """As much of its id as people are shown."""
        return self.id[:ID_DIGITS]


def parents_of(
    catalog: Catalog, model: str, order: Sequence[str] = (), *, without: str | None = None
) -> tuple[HubParent, ...]:
    """The parents of a model, the base first.

    Args:
        catalog: what is known.
        model: its id.
        order: ids of parents in the order of the recipe; others follow by name.
        without: address of a repository of the Hub whose card is not listened to, such as one that we wrote.
    """
    with catalog.read() as reader:
        edges = reader.rows(
            "select e.*, n.name from store.edge e join store.named n on n.id = e.parent "
            "where child = ? and e.parent <> e.child and confidence >= ? and status in (select store.each(?))",
            [model, _LEAST_CONFIDENCE, list(_STRENGTH)],
        )
        ids = sorted({edge["parent"] for edge in edges})
        places = reader.rows(
            "select model_id, uri, root, source from store.address where model_id in (select store.each(?)) "
            "order by known_since, uri",
            [ids],
        )
        claims = reader.rows(
            "select resolved_id, object, source from store.claim where model_id = $1 and "
            "predicate in ('base_model', 'merge_parent') and ($2 is null or not (uri = $2 or starts_with(uri, $2 || '@'))) order by id",
            [model, without],
        )
    said = {claim["resolved_id"] for claim in claims}
    edges = [e for e in edges if e["status"] != "declared" or e["parent"] in said]
    strongest: dict[str, Row] = {}
    for edge in sorted(edges, key=_rank):
        strongest.setdefault(edge["parent"], edge)
    found = [
        HubParent(
            edge["parent"], _public(edge["name"]), _repository(edge["parent"], places, claims),
            edge["relation"], edge["role"], edge["coefficient"], edge["status"],
        )
        for edge in strongest.values()
    ]  # fmt: skip
    turn = {id_: i for i, id_ in enumerate(order)}
    last = len(turn)
    return tuple(
        sorted(found, key=lambda p: (p.role != "base", turn.get(p.id, last), p.name, p.id))
    )


def hub_relation(parents: Iterable[HubParent]) -> str | None:
    """The Hub's word for how a model came of its parents; None where it has none."""
    said = [_RELATIONS[p.relation] for p in parents if p.relation in _RELATIONS]
    return "merge" if "merge" in said else next(iter(said), None)


def _rank(edge: Row) -> tuple[int, bool, str]:
    """Order of the edges to one parent, the one that is shown first."""
    return _STRENGTH.index(edge["status"]), edge["relation"] not in _RELATIONS, edge["role"]


def _public(name: str) -> str:
    """A name without any folder: org/name, or the last part of a path."""
    parts = name.replace("\\", "/").split("/")
    return name if len(parts) <= 2 and all(parts) else parts[-1]  # noqa: PLR2004 - org and name


def _repository(parent: str, places: Sequence[Row], claims: Sequence[Row]) -> str | None:
    """The repository of a parent: where it was found on the Hub or in its cache, else what the model's card calls it.

    Folders are called so too: of a parent that is here, a name without an owner is not believed, nor, outside of a card,
    one that is the end of its path.
    """
    known: Mapping[str, list[str]] = defaultdict(list)
    for place in (place for place in places if place["model_id"] == parent):
        scheme = CACHE if place["source"] == "hf-cache" else HUB
        known[place["source"]].append(place["uri"].removeprefix(scheme).partition("@")[0])
    here = [p["root"] for p in places if p["model_id"] == parent and p["source"] == "local"]
    claimed = [
        name
        for claim in claims
        if claim["resolved_id"] == parent and claim["source"] in _STATED
        for name in hub_ids([claim["object"]])
        if not here
        or (
            "/" in name
            and (claim["source"] == "card" or not any(r.endswith(f"/{name}") for r in here))
        )
    ]
    there = [*known["hub"], *known["hf-cache"], *known["listing"]]
    return next((name for name in claimed if name in there), None) or next(
        iter([*there, *claimed]), None
    )

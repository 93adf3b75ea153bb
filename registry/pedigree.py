"""Pedigrees: all that a document about a part of the graph tells of its models, read once.

Told are facts of the models and of their lineage. Folders of this machine are not among them: such a document is made
to be passed on.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from registry.catalog import Catalog
from registry.database import Reader, Row
from registry.license_report import licenses
from registry.license_table import license_table
from registry.lineage import Edge, Lineage
from registry.names import Address, parse

_MODELS = (
    "select id, kind, status, digest_name, dtype, n_params, n_bytes, n_tensors from store.model "
    "where id in (select store.each(?)) order by id"
)
_ADDRESSES = (
    "select model_id, uri, source, architecture, family from store.address "
    "where model_id in (select store.each(?)) order by model_id, uri"
)
_SCORES = (
    "select model_id, task, metric, value, stderr, n, harness, harness_version, shots, origin from store.score "
    "where model_id in (select store.each(?)) order by all"
)
_RUNS = (
    "select id, model_id, recipe, engine_version, started_at, ended_at from store.run "
    "where status = 'COMPLETE' and model_id in (select store.each(?)) order by model_id, id"
)
_USED = (
    "select run_id, parent, role from store.edge where run_id is not null and child in (select store.each(?)) "
    "order by run_id, parent, role"
)
_RECIPES = "select digest, canonical from store.recipe where digest in (select store.each(?)) order by digest"


@dataclass(frozen=True)
class License:
    """A licence of a model.

    Attributes:
        name: as it is said.
        spdx: its identifier at SPDX; None where there is none.
        declared: somebody says so; else it follows from what the model was made of.
    """

    name: str
    spdx: str | None
    declared: bool


@dataclass(frozen=True)
class Member:
    """One model of a pedigree.

    Attributes:
        id: of the model: hex digest of its tensors, or of its name where nobody has seen them.
        name: what it is called.
        facts: kind, status, digest_name, dtype, n_params, n_bytes, n_tensors, architecture, family; those that are known.
        repositories: on the Hub, in order.
        licenses: in order.
        asked: what its licences ask for, in words.
        scores: rows of the catalog.
    """

    id: str
    name: str
    facts: Mapping[str, str | int]
    repositories: tuple[Address, ...]
    licenses: tuple[License, ...]
    asked: tuple[str, ...]
    scores: tuple[Row, ...]


@dataclass(frozen=True)
class Pedigree:
    """Models and how they came about.

    Attributes:
        about: id of the model that was asked for; None: all of them.
        members: id → model, in order of names.
        edges: in order of child, parent, status.
        runs: of ours that made one of them: id, model_id, recipe, engine_version, started_at, ended_at.
        used: id of a run → (parent, role) that it read, in order.
        recipes: digest → canonical form, JSON.
    """

    about: str | None
    members: Mapping[str, Member]
    edges: tuple[Edge, ...]
    runs: tuple[Row, ...]
    used: Mapping[str, Sequence[tuple[str, str]]]
    recipes: Mapping[str, str]


def pedigree(catalog: Catalog, graph: Lineage, about: str | None = None) -> Pedigree:
    """Read what is known of the models of a graph.

    Args:
        catalog: that the graph was read from.
        graph: models and edges.
        about: id of the model that was asked for.
    """
    ids = list(graph.nodes)
    of_license = licenses(catalog, ids)
    with catalog.read() as reader:
        facts = {row["id"]: row for row in reader.rows(_MODELS, [ids])}
        addresses = _by_model(reader, _ADDRESSES, ids)
        scores = _by_model(reader, _SCORES, ids)
        runs = tuple(reader.rows(_RUNS, [ids]))
        used: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for row in reader.rows(_USED, [ids]):
            if row["parent"] in graph.nodes:
                used[row["run_id"]].append((row["parent"], row["role"]))
        recipes = reader.rows(_RECIPES, [sorted({row["recipe"] for row in runs})])
    members = {}
    for id_, node in graph.nodes.items():
        places = addresses[id_]
        named = {
            key: next((p[key] for p in places if p[key]), None)
            for key in ("architecture", "family")
        }
        known = {k: v for k, v in (facts[id_] | named).items() if v is not None and k != "id"}
        law = of_license[id_]
        members[id_] = Member(
            id_, node.name, known, _repositories(places), _licenses(law.declared, law.suggested, node.name),
            tuple(obligation.text for obligation in law.obligations), tuple(scores[id_]),
        )  # fmt: skip
    return Pedigree(
        about, members, graph.edges, runs, used, {row["digest"]: row["canonical"] for row in recipes}
    )  # fmt: skip


def _by_model(reader: Reader, sql: str, ids: Sequence[str]) -> dict[str, list[Row]]:
    """Rows by their model."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in reader.rows(sql, [list(ids)]):
        found[row["model_id"]].append(row)
    return found


def _repositories(places: Sequence[Row]) -> tuple[Address, ...]:
    """The repositories of the Hub among addresses, as an address of the Hub."""
    found = (parse(row["uri"]) for row in places if row["source"] != "local")
    return tuple(dict.fromkeys(Address("hub", a.name, a.revision, a.inside) for a in found))


def _licenses(
    declared: Sequence[str], suggested: str | None, name: str
) -> tuple[License, ...]:  # fmt: skip
    """What cards say; where they say nothing, what follows from the lineage."""
    table = license_table()
    said = [(text, True) for text in dict.fromkeys(declared)]
    if not said and suggested is not None:
        said = [(suggested, False)]
    found = []
    for text, is_declared in said:
        known = table.find(text, name)
        found.append(License(text, known.spdx if known else None, is_declared))
    return tuple(found)

"""A pedigree as a bill of materials: CycloneDX 1.6 in JSON, the ML-BOM.

The same catalog gives the same bytes: no clock, and a serial number that follows from the content.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID, uuid5

from registry.database import Row
from registry.lineage import Edge
from registry.names import printable
from registry.pedigree import License, Member, Pedigree
from registry.version import VERSION

_NAMESPACE = UUID("0fb2ca34-5b04-5c6c-9a6d-3c8d9f1c2f7e")
"""Of serial numbers: they differ where contents differ."""

_SEEN = ("full",)
"""Statuses whose id is a digest of all tensors."""

_Above = dict[str, dict[str, list[Edge]]]
"""Child → parent → edges, in order."""


def as_bill(pedigree: Pedigree) -> dict[str, Any]:
    """The document, as plain values."""
    above: _Above = {id_: {} for id_ in pedigree.members}
    for edge in pedigree.edges:
        if edge.parent != edge.child:
            above[edge.child].setdefault(edge.parent, []).append(edge)
    recipes: dict[str, list[str]] = {}
    for run in pedigree.runs:
        recipes.setdefault(run["model_id"], []).append(run["recipe"])
    components = {
        id_: _component(pedigree, member, above[id_], recipes.get(id_, ()))
        for id_, member in pedigree.members.items()
    }
    metadata: dict[str, Any] = {
        "tools": {"components": [{"type": "application", "name": "homolog", "version": VERSION}]}
    }
    if pedigree.about is not None:
        metadata["component"] = components.pop(pedigree.about)
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": metadata,
        "components": list(components.values()),
        "dependencies": [
            {"ref": child, "dependsOn": list(parents)} if parents else {"ref": child}
            for child, parents in above.items()
        ],
    }
    content = json.dumps(document, sort_keys=True)
    return {"serialNumber": uuid5(_NAMESPACE, content).urn, **document}


def _component(
    pedigree: Pedigree,
    member: Member,
    above: Mapping[str, Sequence[Edge]],
    recipes: Sequence[str],
) -> dict[str, Any]:
    """One model: its parents with the edges to them, the recipes of the runs that made it."""
    found: dict[str, Any] = _identity(member) | {"bom-ref": member.id}
    if member.licenses:
        found["licenses"] = [{"license": _license(each)} for each in member.licenses]
    if member.repositories:
        found["purl"] = _purl(member)
    if above:
        ancestors = [
            _identity(pedigree.members[parent]) | {"properties": _properties(_ways(edges))}
            for parent, edges in above.items()
        ]
        found["pedigree"] = {"ancestors": ancestors}
    if card := _card(member):
        found["modelCard"] = card
    facts = [(key, str(value)) for key, value in member.facts.items()]
    facts += [("repository", str(place)) for place in member.repositories]
    facts += [("asked", text) for text in member.asked]
    for digest in dict.fromkeys(recipes):
        facts += [("recipe_digest", digest), ("recipe", pedigree.recipes.get(digest, ""))]
    found["properties"] = _properties(facts)
    return found


def _identity(member: Member) -> dict[str, Any]:
    """What tells a model from others."""
    found: dict[str, Any] = {"type": "machine-learning-model", "name": printable(member.name)}
    if member.facts["status"] in _SEEN:
        found["hashes"] = [{"alg": "BLAKE3", "content": member.id}]
    return found


def _license(said: License) -> dict[str, str]:
    """A licence by its SPDX identifier, or by its name."""
    by = {"id": said.spdx} if said.spdx else {"name": printable(said.name) or "?"}
    return by | {"acknowledgement": "declared" if said.declared else "concluded"}


def _purl(member: Member) -> str:
    """The package URL of its first repository."""
    place = member.repositories[0]
    return f"pkg:huggingface/{place.name}" + (
        f"@{place.revision.lower()}" if place.revision else ""
    )


def _ways(edges: Iterable[Edge]) -> list[tuple[str, str]]:
    """How a model came from one parent, an edge each."""
    found = []
    for edge in edges:
        amount = "" if edge.coefficient is None else f" {edge.coefficient!r}"
        text = (
            f"{edge.relation}{amount} as {edge.role}, {edge.status}, confidence {edge.confidence!r}"
        )
        found.append(("edge", text))
    return found


def _card(member: Member) -> dict[str, Any]:
    """What is known of a model card's contents: architecture and scores."""
    names = {"family": "architectureFamily", "architecture": "modelArchitecture"}
    parameters = {
        name: printable(str(member.facts[key]))
        for key, name in names.items()
        if key in member.facts
    }
    card: dict[str, Any] = {"modelParameters": parameters} if parameters else {}
    if member.scores:
        card["quantitativeAnalysis"] = {"performanceMetrics": [_metric(s) for s in member.scores]}
    return card


def _metric(score: Row) -> dict[str, Any]:
    """One score; what measured it and who says so belong to its type."""
    by = " ".join(str(score[key]) for key in ("harness", "harness_version") if score[key])
    shots = "" if score["shots"] is None else f"{score['shots']} shots"
    about = ", ".join(text for text in (score["origin"], by, shots) if text)
    found: dict[str, Any] = {
        "type": printable(f"{score['metric']} ({about})"),
        "value": repr(score["value"]),
        "slice": printable(score["task"]),
    }
    if score["stderr"] is not None:
        low, high = score["value"] - score["stderr"], score["value"] + score["stderr"]
        found["confidenceInterval"] = {"lowerBound": repr(low), "upperBound": repr(high)}
    return found


def _properties(pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """Names and values as the format has them."""
    return [{"name": f"homolog:{key}", "value": printable(text)} for key, text in pairs]

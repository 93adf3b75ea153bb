"""What is true of a split: its nodes, its edges, and the claims of its cards, right and wrong."""

from collections.abc import Iterable, Mapping
from random import Random
from typing import Any

from zoo_lineage.family import Craft, Model, Pace, layer_map
from zoo_lineage.plan import Family
from zoo_lineage.storage import opaque

Facts = dict[str, Any]

COPIES = ("copy", "cast")
FALSE_CLAIMS = 0.2


def folder_name(split: str, family: Family, node: str) -> str:
    """The folder of a node."""
    return opaque(f"{split}/{family.name}/{family.seed}/{node}")


def facts(split: str, family: Family, made: Mapping[str, Model]) -> Facts:
    """The nodes and edges of one family; a distractor is a family of its own."""
    names = {node: folder_name(split, family, node) for node in made}
    bases = _bases(made)
    nodes = [
        {
            "name": names[key],
            "label": f"{family.name}/{key}",
            "family": family.name if bases[key] else f"{family.name}/{key}",
            "architecture": family.shape.architecture,
            "kind": model.node.kind,
            "latent": family.missing and key == "base",
            "root": not model.node.parents,
            "basis": names[bases[key] or key],
            "dtype": model.node.dtype,
            "neutral": [names[other] for other in model.node.neutral],
        }
        for key, model in made.items()
    ]
    return {"nodes": nodes, "edges": [e for key in made for e in _edges(family, made, names, key)]}


def _bases(made: Mapping[str, Model]) -> dict[str, str]:
    """Node → the node whose basis it has; empty for a distractor."""
    bases: dict[str, str] = {}
    for key, model in made.items():
        node = model.node
        if node.turned or key == "base":
            bases[key] = key
        else:
            bases[key] = bases[node.parents[0]] if node.parents else ""
    return bases


def _edges(
    family: Family, made: Mapping[str, Model], names: Mapping[str, str], key: str
) -> Iterable[Facts]:
    """The edges of one node to its parents."""
    model, node = made[key], made[key].node
    weights = node.coefficients or (None,) * len(node.parents)
    for parent, weight in zip(node.parents, weights, strict=True):
        symmetric = node.turned or (node.kind in COPIES and not model.lossy)
        edge: Facts = {
            "child": names[key],
            "parent": names[parent],
            "kind": node.kind,
            "method": node.method,
            "coefficient": weight,
            "exact": node.exact,
            "direction_identifiable": not symmetric,
        }
        if "rank" in node.options:
            edge["rank"] = node.options["rank"]
        if node.act == "stack":
            layers = layer_map(Craft(family, node, made, Pace()))
            edge["layer_map"] = [[names[name], layer] for name, layer in layers]
        yield edge


def claims(truth: Facts, seed: str) -> list[Facts]:
    """For each child with a parent that is there: its parents, or, for a fifth, some other model of its architecture."""
    nodes = {node["name"]: node for node in truth["nodes"]}
    there = sorted(name for name, node in nodes.items() if not node["latent"])
    found = []
    for name in there:
        parents = [e["parent"] for e in truth["edges"] if e["child"] == name]
        if not parents or any(nodes[p]["latent"] for p in parents):
            continue
        rng = Random(f"{seed}/{name}")
        if honest := rng.random() >= FALSE_CLAIMS:
            said = parents
        else:
            others = [
                other
                for other in there
                if nodes[other]["architecture"] == nodes[name]["architecture"]
                and other not in (name, *parents)
            ]
            said = [rng.choice(others)]
        found.append({"child": name, "base_model": said, "true": honest})
    return found

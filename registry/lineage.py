"""The graph of lineage, and the door to networkx.

Nodes are models, edges run from parent to child; declared, measured, inferred and recorded edges lie side by
side, each with its confidence. The graph is a picture of the catalog at one moment, never a second truth. Claims
may contradict each other and even form cycles: nothing here assumes a tree.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import networkx as nx

from registry.catalog import Catalog
from registry.database import Row
from registry.generations import numbers, with_all
from registry.names import printable

_COLUMNS = "child, parent, relation, role, status, coefficient, confidence"


@dataclass(frozen=True)
class Edge:
    """One edge, as `reg lineage` shows it.

    Attributes:
        child: id of the model that descends.
        parent: id of the model it descends from.
        relation: finetune, merge, adapter, cast, …
        role: parent, base or model.
        status: declared, measured, inferred or recorded.
        coefficient: in a merge.
        confidence: in [0, 1].
    """

    child: str
    parent: str
    relation: str
    role: str
    status: str
    coefficient: float | None
    confidence: float


@dataclass(frozen=True)
class Node:
    """One model, as `reg lineage` shows it."""

    id: str
    name: str
    status: str


class Lineage:
    """All models and edges of a catalog.

    Attributes:
        nodes: id → node, in order of names.
        edges: in order of child, parent, status.
    """

    def __init__(self, nodes: Iterable[Node], edges: Iterable[Edge]) -> None:
        self.nodes = {node.id: node for node in sorted(nodes, key=lambda n: (n.name, n.id))}
        known = [e for e in edges if e.child in self.nodes and e.parent in self.nodes]
        self.edges = tuple(
            sorted(known, key=lambda e: (e.child, e.parent, e.status, e.relation, e.role))
        )
        self._order = {id_: i for i, id_ in enumerate(self.nodes)}
        self._graph: nx.DiGraph[str] = nx.DiGraph()
        self._graph.add_nodes_from(self.nodes)
        self._graph.add_edges_from((e.parent, e.child) for e in self.edges if e.parent != e.child)

    @classmethod
    def load(
        cls, catalog: Catalog, models: Sequence[str] | None = None, *, descendants: bool = False
    ) -> "Lineage":
        """Read the graph.

        Args:
            catalog: where it is.
            models: ids; only they and their ancestors are read, which is fast in a catalog of any size. None: all.
            descendants: with ``models``, read their descendants too.
        """
        with catalog.read() as reader:
            if models is None:
                nodes = reader.rows("select id, name, status from models")
                edges = reader.rows(f"select {_COLUMNS} from store.edge")
            else:
                ids = with_all(reader, models, "ancestors")
                if descendants:
                    ids += with_all(reader, models, "descendants")
                nodes = reader.rows("select id, name, status from store.nodes(?)", [ids])
                edges = reader.rows_for(
                    numbers(reader, ids),
                    f"select {_COLUMNS} from store.edge where child_number in (from asked)",
                )
        return cls((Node(**row) for row in nodes), (Edge(**row) for row in edges))

    @classmethod
    def among(cls, catalog: Catalog, models: Sequence[str]) -> "Lineage":
        """Read ``models`` and the edges among them, and nothing around them."""
        with catalog.read() as reader:
            nodes = reader.rows("select id, name, status from store.nodes(?)", [list(models)])
            edges = reader.rows_for(
                numbers(reader, models),
                f"select {_COLUMNS} from store.edge where child_number in (from asked) "
                "and parent_number in (from asked)",
            )
        return cls((Node(**row) for row in nodes), (Edge(**row) for row in edges))

    def parents(self, model: str) -> list[Edge]:
        """Edges to the parents of ``model``."""
        return [e for e in self.edges if e.child == model]

    def children(self, model: str) -> list[str]:
        """Ids of the children of ``model``, by name."""
        return self._by_name(self._graph.successors(model))

    def ancestors(self, model: str) -> list[str]:
        """Ids of all ancestors of ``model``, nearest first, then by name; never ``model`` itself."""
        distance = nx.single_source_shortest_path_length(self._graph.reverse(copy=False), model)
        return self._nearest(model, distance)

    def descendants(self, model: str) -> list[str]:
        """Ids of all descendants of ``model``, nearest first, then by name; never ``model`` itself."""
        return self._nearest(model, nx.single_source_shortest_path_length(self._graph, model))

    def common_base(self, models: Sequence[str]) -> str | None:
        """The nearest model that all ``models`` descend from; one of them only if all others descend from it.

        None where there is none. Of several equally near ones the first by (name, id) is taken.
        """
        strict = [set(self.ancestors(m)) for m in models]
        shared = set.intersection(*strict) or set.intersection(
            *(above | {model} for above, model in zip(strict, models, strict=True))
        )
        reversed_graph = self._graph.reverse(copy=False)
        near = [nx.single_source_shortest_path_length(reversed_graph, m) for m in models]
        return min(shared, key=lambda m: (sum(d[m] for d in near), self._order[m]), default=None)

    def turned(self, models: Sequence[str]) -> list[tuple[str, str]]:
        """Pairs of models that are one network in two bases: joined by a permuted edge, and else by claims alone."""
        alike, kin = self._shown(turned=False), self._shown(turned=True)
        return [
            (a, b)
            for a, b in combinations(dict.fromkeys(models), 2)
            if nx.has_path(kin, a, b) and not nx.has_path(alike, a, b)
        ]

    def kin(self, a: str, b: str) -> bool:
        """Whether two models hang together in one basis by what bytes and weights show, claims left aside."""
        return nx.has_path(self._shown(turned=False), a, b)

    def _shown(self, *, turned: bool) -> "nx.Graph[str]":
        """The graph without claims and without directions, with changes of basis or without."""
        found: nx.Graph[str] = nx.Graph()
        found.add_nodes_from(self.nodes)
        found.add_edges_from(
            (e.parent, e.child) for e in self.edges
            if e.status != "declared" and (turned or e.relation != "permuted")
        )  # fmt: skip
        return found

    def roots(self) -> list[str]:
        """Ids of models without parents, by name; of a cycle of claims, the first by name."""
        found = [m for m in self.nodes if self._graph.in_degree(m) == 0]
        reached = {d for root in found for d in (root, *nx.descendants(self._graph, root))}
        for model in self.nodes:
            if model not in reached:
                found.append(model)
                reached |= {model, *nx.descendants(self._graph, model)}
        return found

    def families(self) -> list[list[str]]:
        """Groups of models that hang together by any edge, largest first; inside a group by name."""
        groups = [self._by_name(group) for group in nx.weakly_connected_components(self._graph)]
        return sorted(groups, key=lambda g: (-len(g), self.nodes[g[0]].name, g[0]))

    def around(self, models: Iterable[str]) -> "Lineage":
        """The part of the graph made of ``models`` and the edges among them."""
        kept = set(models)
        return Lineage(
            (n for n in self.nodes.values() if n.id in kept),
            (e for e in self.edges if e.child in kept and e.parent in kept),
        )

    def as_json(self) -> dict[str, list[Row]]:
        """Nodes and edges as plain rows."""
        return {
            "models": [vars(node) for node in self.nodes.values()],
            "edges": [vars(edge) for edge in self.edges],
        }

    def as_dot(self) -> str:
        """The graph in Graphviz's language; dashed edges are only declared."""
        lines = ["digraph lineage {", "  rankdir=LR;", "  node [shape=box];"]
        lines += [f'  "{n.id[:12]}" [label="{_escaped(n.name)}"];' for n in self.nodes.values()]
        for e in self.edges:
            style = ", style=dashed" if e.status == "declared" else ""
            label = _escaped(_label(e))
            lines.append(f'  "{e.parent[:12]}" -> "{e.child[:12]}" [label="{label}"{style}];')
        return "\n".join([*lines, "}"])

    def as_mermaid(self) -> str:
        """The graph in Mermaid's language; dotted edges are only declared."""
        lines = ["flowchart LR"]
        lines += [f'  m{n.id[:12]}["{_in_html(n.name)}"]' for n in self.nodes.values()]
        for e in self.edges:
            arrow = "-.->" if e.status == "declared" else "-->"
            lines.append(f'  m{e.parent[:12]} {arrow}|"{_in_html(_label(e))}"| m{e.child[:12]}')
        return "\n".join(lines)

    def as_graphml(self) -> str:
        """The graph as GraphML, one edge per stored edge."""
        graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
        for node in self.nodes.values():
            graph.add_node(node.id, name=printable(node.name), status=node.status)
        for edge in self.edges:
            facts: dict[str, Any] = {k: v for k, v in vars(edge).items() if v is not None}
            graph.add_edge(facts.pop("parent"), facts.pop("child"), **facts)
        return "\n".join(nx.generate_graphml(graph))

    def _by_name(self, models: Iterable[str]) -> list[str]:
        """Ids by (name, id)."""
        return sorted(models, key=lambda m: (self.nodes[m].name, m))

    def _nearest(self, model: str, distance: dict[str, int]) -> list[str]:
        """Ids by distance, then name, without ``model``."""
        return sorted(
            (m for m in distance if m != model), key=lambda m: (distance[m], self._order[m])
        )


def _label(edge: Edge) -> str:
    """Relation and coefficient of an edge."""
    amount = "" if edge.coefficient is None else f" {edge.coefficient:g}"
    return f"{edge.relation}{amount}"


def _escaped(text: str) -> str:
    """Text that is safe inside the double quotes of DOT."""
    return printable(text).replace("\\", "\\\\").replace('"', '\\"')


def _in_html(text: str) -> str:
    """Text that is safe inside the double quotes of Mermaid, which shows labels as HTML."""
    return "".join(c if c.isalnum() or c in " -_./:@+" else f"#{ord(c)};" for c in printable(text))

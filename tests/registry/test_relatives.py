"""Relatives: everybody is counted, the nearest are named."""

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.catalog import Catalog, now
from registry.relatives import relatives


def graph(catalog, edges):
    """A catalog that holds these (child, parent) edges."""
    names = sorted({end for edge in edges for end in edge})
    with catalog.write() as transaction:
        transaction.execute("delete from store.edge")
        transaction.execute("delete from store.model")
        n = len(names)
        transaction.insert("model", {
            "id": names, "kind": ["model"] * n, "status": ["listed"] * n, "digest_name": ["d"] * n, "created_at": [now()] * n,
        })  # fmt: skip
        n = len(edges)
        transaction.insert("edge", {
            "child": [c for c, _ in edges], "parent": [p for _, p in edges], "relation": ["finetune"] * n,
            "role": ["parent"] * n, "status": ["declared"] * n, "confidence": [1.0] * n, "created_at": [now()] * n,
        })  # fmt: skip


CHAIN = [("b", "a"), ("c", "b"), ("d", "c"), ("x", "a"), ("d", "x")]


def test_the_nearest_come_first(catalog):
    graph(catalog, CHAIN)
    assert relatives(catalog, "a", "descendants").nearest == ("b", "x", "c", "d")
    assert relatives(catalog, "d", "ancestors").nearest == ("c", "x", "a", "b")
    assert relatives(catalog, "a", "ancestors").total == 0


def test_depth_and_limit(catalog):
    graph(catalog, CHAIN)
    found = relatives(catalog, "a", "descendants", depth=1)
    assert (found.total, found.nearest) == (2, ("b", "x"))
    found = relatives(catalog, "a", "descendants", limit=3)
    assert (found.total, len(found.nearest)) == (4, 3)


def test_a_cycle_of_claims_ends(catalog):
    graph(catalog, [("a", "b"), ("b", "a"), ("c", "a"), ("c", "c")])
    assert relatives(catalog, "a", "descendants").nearest == ("b", "c")
    assert relatives(catalog, "a", "descendants", depth=9).total == 2
    assert relatives(catalog, "c", "ancestors").nearest == ("a", "b")


NODES = st.sampled_from("abcdefgh")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    return Catalog(tmp_path_factory.mktemp("relatives") / "c.duckdb")


@settings(max_examples=15, deadline=None)
@given(
    edges=st.sets(st.tuples(NODES, NODES), min_size=1, max_size=16),
    depth=st.none() | st.integers(1, 5),
)
def test_they_are_those_of_networkx(shelf, edges, depth):
    graph(shelf, sorted(edges))
    parents = nx.DiGraph(sorted(edges))
    for model in sorted(parents):
        for direction, drawn in (("ancestors", parents), ("descendants", parents.reverse())):
            expected = nx.single_source_shortest_path_length(drawn, model, cutoff=depth)
            found = relatives(shelf, model, direction, depth=depth)
            assert found.total == len(expected) - 1
            assert set(found.nearest) == expected.keys() - {model}
            assert [expected[m] for m in found.nearest] == sorted(
                expected[m] for m in found.nearest
            )

"""Generations: one step at a time, every model once, cycles end."""

import networkx as nx
import pytest
from edged import CHAIN, graph
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.catalog import Catalog
from registry.generations import generations, ids, with_all


def named(reader, models, direction):
    """The generations, each as its ids in order."""
    levels = generations(reader, models, direction)
    return [sorted(ids(reader, level).values()) for level in levels]


def test_each_model_is_in_the_nearest_generation(catalog):
    graph(catalog, [*CHAIN, ("d", "a")])
    with catalog.read() as reader:
        assert named(reader, ["a"], "descendants") == [["b", "d", "x"], ["c"]]
        assert named(reader, ["b", "x"], "descendants") == [["c", "d"]]
        assert named(reader, ["d"], "ancestors") == [["a", "c", "x"], ["b"]]
        assert named(reader, [], "ancestors") == []
        assert named(reader, ["nobody"], "ancestors") == []
        assert with_all(reader, ["c", "x", "c"], "ancestors") == ["c", "x", "a", "b"]


def test_a_cycle_ends(catalog):
    graph(catalog, [("a", "b"), ("b", "a"), ("c", "c")])
    with catalog.read() as reader:
        assert named(reader, ["a"], "ancestors") == [["b"]]
        assert named(reader, ["c"], "ancestors") == []


def test_without_edges_there_is_nobody(catalog):
    graph(catalog, [("a", "b")])
    with catalog.write() as transaction:
        transaction.execute("delete from store.edge")
    with catalog.read() as reader:
        assert named(reader, ["a"], "ancestors") == []


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    return Catalog(tmp_path_factory.mktemp("generations") / "c.duckdb")


NODES = st.sampled_from("abcdefgh")


@settings(max_examples=10, deadline=None)
@given(edges=st.sets(st.tuples(NODES, NODES), min_size=1, max_size=16))
def test_they_are_the_layers_of_networkx(shelf, edges):
    graph(shelf, sorted(edges))
    drawn = nx.DiGraph([(parent, child) for child, parent in sorted(edges)])
    first = sorted(drawn)[:2]
    layers = [sorted(layer) for layer in nx.bfs_layers(drawn, first)]
    with shelf.read() as reader:
        assert [sorted(first), *named(reader, first, "descendants")] == layers

"""Generations: one step at a time, every model once, cycles end."""

import networkx as nx
import pytest
from edged import CHAIN, graph
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.catalog import Catalog
from registry.generations import generations, with_all


def test_each_model_is_in_the_nearest_generation(catalog):
    graph(catalog, [*CHAIN, ("d", "a")])
    with catalog.read() as reader:
        assert list(generations(reader, ["a"], "descendants")) == [["b", "d", "x"], ["c"]]
        assert list(generations(reader, ["b", "x"], "descendants")) == [["c", "d"]]
        assert list(generations(reader, ["d"], "ancestors")) == [["a", "c", "x"], ["b"]]
        assert list(generations(reader, [], "ancestors")) == []
        assert with_all(reader, ["c", "x", "c"], "ancestors") == ["c", "x", "a", "b"]


def test_a_cycle_ends(catalog):
    graph(catalog, [("a", "b"), ("b", "a"), ("c", "c")])
    with catalog.read() as reader:
        assert list(generations(reader, ["a"], "ancestors")) == [["b"]]
        assert list(generations(reader, ["c"], "ancestors")) == []


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
        assert [sorted(first), *generations(reader, first, "descendants")] == layers

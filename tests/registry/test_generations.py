"""Generations: one step at a time, every model once, cycles end."""

import networkx as nx
import pytest
from edged import CHAIN, graph
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.catalog import Catalog
from registry.generations import count_within, ids, near, steps, with_all


def test_each_model_is_in_the_nearest_generation(catalog):
    graph(catalog, [*CHAIN, ("d", "a")])
    with catalog.read() as reader:
        assert near(reader, ["a"], "descendants").generations == [["b", "d", "x"], ["c"]]
        assert near(reader, ["b", "x"], "descendants").generations == [["c", "d"]]
        assert near(reader, ["d"], "ancestors").generations == [["a", "c", "x"], ["b"]]
        assert near(reader, [], "ancestors").total == 0
        assert near(reader, ["nobody"], "ancestors").total == 0
        assert with_all(reader, ["c", "x", "c"], "ancestors") == ["c", "x", "a", "b"]


def test_a_cycle_ends(catalog):
    graph(catalog, [("a", "b"), ("b", "a"), ("c", "c")])
    with catalog.read() as reader:
        assert near(reader, ["a"], "ancestors").generations == [["b"]]
        assert near(reader, ["c"], "ancestors").generations == []
        assert list(steps(reader, "c", "ancestors")) == []


def test_of_too_many_only_the_number_is_told(catalog):
    graph(catalog, CHAIN)
    with catalog.read() as reader:
        few, many = (near(reader, ["a"], "descendants", most=most) for most in (5, 4))
        assert (few.total, few.generations) == (4, [["b", "x"], ["c", "d"]])
        assert (many.total, many.generations) == (4, [])
        assert count_within(reader, "a", "descendants", 1) == 2


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
        assert [sorted(first), *near(reader, first, "descendants").generations] == layers
        one = [sorted(layer) for layer in nx.bfs_layers(drawn, first[0])]
        walked = [
            sorted(ids(reader, level).values()) for level in steps(reader, first[0], "descendants")
        ]
        assert walked == one[1:]

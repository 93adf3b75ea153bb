"""Relatives: everybody is counted, the nearest are named."""

import duckdb
import networkx as nx
import pytest
from edged import CHAIN, graph
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.catalog import Catalog
from registry.relatives import relatives


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


def test_of_a_generation_that_is_cut_the_most_downloaded_are_given(catalog):
    graph(catalog, [("b", "a"), ("c", "a"), ("d", "a"), ("e", "d")])
    with catalog.write() as transaction:
        transaction.execute(
            "insert into store.address by name select id as uri, id as root, id as model_id, 'listing' as source, "
            "'folder' as layout, id as name, '{}' as config, now() as known_since, now() as seen_at, "
            "case id when 'c' then 3 when 'd' then 7 end as downloads from store.model"
        )
    assert relatives(catalog, "a", "descendants", limit=2).nearest == ("d", "c")
    assert relatives(catalog, "a", "descendants", limit=3).nearest == ("b", "c", "d")
    assert relatives(catalog, "a", "descendants", limit=1).total == 4


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
            few = relatives(shelf, model, direction, depth=depth, limit=1)
            assert few.total == len(expected) - 1
            found = relatives(shelf, model, direction, depth=depth)
            assert found.total == len(expected) - 1
            assert len(few.nearest) == min(1, found.total)
            assert set(found.nearest) == expected.keys() - {model}
            assert [expected[m] for m in found.nearest] == sorted(
                expected[m] for m in found.nearest
            )


def test_an_edge_to_a_model_that_somebody_removed_by_hand_leads_nowhere(catalog):
    graph(catalog, [("b", "a"), ("c", "b")])
    with duckdb.connect(str(catalog.path)) as connection:
        connection.execute("delete from store.model where id = 'b'")
    assert relatives(catalog, "a", "descendants").nearest == ("c",)
    assert relatives(catalog, "a", "descendants", limit=1).nearest == ("c",)

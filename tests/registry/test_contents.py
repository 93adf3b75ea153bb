"""Contents: digests made anew, circles, and kept results that are no JSON of ours."""

import pytest
from edged import graph

from registry.contents import check_contents


@pytest.mark.parametrize(
    ("edges", "in_circles"),
    [
        ([("b", "a"), ("c", "b"), ("d", "c"), ("x", "a"), ("d", "x")], 0),
        ([("b", "a"), ("a", "b")], 2),
        ([("b", "a"), ("c", "b"), ("a", "c"), ("d", "c"), ("a", "z")], 3),
        ([("b", "a"), ("a", "b"), ("d", "c"), ("c", "d"), ("c", "b")], 4),
        ([("a", "a")], 0),
    ],
)
def test_circles_are_those_models_and_no_others(edges, in_circles, catalog):
    graph(catalog, edges)
    with catalog.write() as transaction:
        transaction.execute("update store.edge set status = 'recorded'")
    with catalog.read() as reader:
        found = [f.n for f in check_contents(reader) if f.kind == "circle"]
    assert found == ([in_circles] if in_circles else [])


@pytest.mark.parametrize(
    "text",
    ["null", "[]", "{}", "[1]", '[[], [], "nobody"]', '[[[1]], [], "a"]', "x", '[{"a": 1}, []]'],
)
@pytest.mark.parametrize("table", ["component", "clans"])
def test_kept_results_that_mean_nothing_are_told_and_never_raise(table, text, catalog):
    key = {"component": "id", "clans": "spec"}[table]
    with catalog.write() as transaction:
        columns = [c["n"] for c in transaction.rows(
            "select column_name as n from duckdb_columns() where schema_name = 'store' and table_name = ? "
            "and data_type = 'VARCHAR' and column_name <> 'found'",
            [table],
        )]  # fmt: skip
        listed = ", ".join(f"'x' as {name}" for name in columns)
        transaction.execute(
            f"insert into store.{table} by name select {listed}, ? as found, now() as inferred_at",
            [text],
        )
    assert key in columns
    with catalog.read() as reader:
        assert [(f.kind, f.where) for f in check_contents(reader)] == [("derived", table)]

"""Integrity: every declared reference is looked at, and every check reads what it says it reads."""

import pytest

from registry import integrity
from registry.integrity import check_rows
from registry.records import references


def test_a_catalog_without_rows_breaks_no_rule(catalog):
    with catalog.read() as reader:
        assert list(check_rows(reader)) == []


def test_every_declared_reference_is_looked_at():
    looked_at = {(c.table, c.where) for c in integrity._references()}
    for table, column in (*references("model"), *references("recipe")):
        assert any(t == table and f"t.{column} not in" in where for t, where in looked_at), (
            table,
            column,
        )


@pytest.mark.parametrize(("table", "column"), references("model"))
def test_a_row_that_refers_to_nothing_is_found(table, column, catalog):
    """A row of any table, with nothing in it that is true."""
    with catalog.write() as transaction:
        columns = transaction.rows(
            "select column_name as n, data_type as t from duckdb_columns() where schema_name = 'store' and table_name = ?",
            [table],
        )
        values = ", ".join(f"{_any(c['t'], c['n'])} as {c['n']}" for c in columns)
        transaction.execute(f"insert into store.{table} select {values}")
    with catalog.read() as reader:
        found = {(f.kind, f.where): f for f in check_rows(reader)}
    told = found["orphans", f"{table}.{column}"]
    assert told.n == 1
    assert "nobody" in told.detail


def _any(kind, name):
    """A value of a type."""
    if kind.endswith("[]"):
        return f"[]::{kind}"
    if kind == "VARCHAR":
        return "'nobody'" if name in ("model_id", "child", "parent", "base") else "'[]'"
    return {"TIMESTAMP WITH TIME ZONE": "now()", "BLOB": "''::blob"}.get(kind, f"0::{kind}")

"""The typed rows: the very tables of `schema/`."""

from datetime import datetime

import pytest
from sqlmodel import ARRAY, SQLModel

from registry import records

CLASSES = {table.name: table for table in SQLModel.metadata.sorted_tables}
TYPES = {
    "AutoString": "VARCHAR",
    "BigInteger": "BIGINT",
    "Integer": "INTEGER",
    "Float": "DOUBLE",
    "UTCDateTime": "TIMESTAMP WITH TIME ZONE",
    "LargeBinary": "BLOB",
}
ONLY_IN_SQL = {"migration", "setting"}
UNKEYED = {"tensor"}


def in_sql(kind):
    """A type of a column as DuckDB names it."""
    if isinstance(kind, ARRAY):
        return f"{in_sql(kind.item_type)}[]"
    return TYPES[type(kind).__name__]


def test_every_table_has_a_class_and_every_class_a_table(catalog):
    rows = catalog.rows("select table_name from duckdb_tables() where schema_name = 'store'")
    assert {r["table_name"] for r in rows} == CLASSES.keys() | ONLY_IN_SQL
    assert {table.schema for table in CLASSES.values()} == {"store"}


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_a_class_equals_its_table_column_by_column(catalog, name):
    rows = catalog.rows(
        "select column_name, data_type, is_nullable from duckdb_columns() "
        "where schema_name = 'store' and table_name = ? order by column_index",
        [name],
    )
    found = [(r["column_name"], r["data_type"], r["is_nullable"]) for r in rows]
    columns = CLASSES[name].columns
    assert [(c.name, in_sql(c.type), c.nullable) for c in columns] == found


@pytest.mark.parametrize("name", sorted(CLASSES.keys() - UNKEYED))
def test_a_class_has_the_primary_key_of_its_table(catalog, name):
    (row,) = catalog.rows(
        "select constraint_column_names as names from duckdb_constraints() "
        "where schema_name = 'store' and table_name = ? and constraint_type = 'PRIMARY KEY'",
        [name],
    )
    assert [c.name for c in CLASSES[name].primary_key.columns] == row["names"]


@pytest.mark.parametrize("name", sorted(UNKEYED))
def test_tables_of_very_many_rows_have_no_index(catalog, name):
    sql = "select constraint_type as kind from duckdb_constraints() where schema_name = 'store' and table_name = ?"
    assert {row["kind"] for row in catalog.rows(sql, [name])} == {"NOT NULL"}


def test_no_foreign_key_reaches_duckdb(catalog):
    kinds = catalog.rows("select distinct constraint_type as kind from duckdb_constraints()")
    assert {r["kind"] for r in kinds} == {"PRIMARY KEY", "NOT NULL"}


def test_every_column_that_holds_a_model_refers_to_it():
    found = set(records.references("model"))
    said = {
        (table.name, column.name)
        for table in CLASSES.values()
        for column in table.columns
        if column.name in ("model_id", "child", "parent", "base")
    }
    assert said == found
    assert records.references("recipe") == [("run", "recipe")]
    assert records.references("nothing") == []


def test_records_are_validated_by_nobody_but_name_their_table():
    problem = records.Problem(
        uri="/m", file="x", error="BadHeader", detail="…", seen_at=datetime.now().astimezone()
    )
    assert problem.__tablename__ == "problem"
    assert list(problem.model_dump()) == ["uri", "file", "error", "detail", "seen_at"]

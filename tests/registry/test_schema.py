"""The files of `schema/`: numbered, commented, and the views people rely on."""

import re

import duckdb
import pytest

from registry.resources import migrations, schema_folder

VIEWS = {
    "models", "tensors", "files", "edges", "evidence", "deltas", "delta_summary", "layers",
    "scores", "claims", "conflicts", "recipes", "runs", "problems", "edits", "aliases", "alias_events",
}  # fmt: skip


def test_migrations_are_numbered_from_one_without_a_gap_or_a_double():
    assert [version for version, _ in migrations()] == list(range(1, len(migrations()) + 1))


def test_migrations_are_named_by_number_verb_and_noun():
    for _, file in migrations():
        assert re.fullmatch(r"\d{4}_[a-z]+(_[a-z]+)*\.sql", file.name)


def test_every_file_of_the_schema_is_used():
    files = {f.relative_to(schema_folder()).as_posix() for f in schema_folder().rglob("*.sql")}
    used = {file.name for _, file in migrations()}
    assert {f for f in files if not f.startswith("views/")} == used
    assert not list(schema_folder().rglob("*.py"))


def test_the_views_are_the_promised_ones(catalog):
    rows = catalog.rows(
        "select view_name from duckdb_views() where schema_name = 'main' and not internal"
    )
    assert {r["view_name"] for r in rows} == VIEWS


@pytest.mark.parametrize("kind", ["table", "view"])
def test_everything_has_a_comment(catalog, kind):
    things = catalog.rows(
        f"select {kind}_name as name, comment from duckdb_{kind}s() "
        "where schema_name in ('store', 'main') and not internal"
    )
    assert things
    assert [t["name"] for t in things if not t["comment"]] == []
    columns = catalog.rows(
        "select table_name, column_name, comment from duckdb_columns() "
        f"where table_name in (select {kind}_name from duckdb_{kind}s() "
        "where schema_name in ('store', 'main') and not internal)"
    )
    assert columns
    assert [f"{c['table_name']}.{c['column_name']}" for c in columns if not c["comment"]] == []


def test_a_column_means_the_same_in_every_view_of_deltas(catalog):
    rows = catalog.rows(
        "select column_name, list(distinct comment) as comments from duckdb_columns() "
        "where table_name in ('deltas', 'layers', 'delta_summary') and column_name not in "
        "('seconds', 'module') group by 1"
    )
    assert [r for r in rows if len(r["comments"]) > 1] == []


@pytest.mark.parametrize("view", sorted(VIEWS))
def test_every_view_can_be_read_when_nothing_is_known(catalog, view):
    assert catalog.rows(f"select * from {view}") == []


def test_views_can_be_made_twice():
    with duckdb.connect() as connection:
        for _, file in migrations():
            connection.execute(file.read_text(encoding="utf-8"))
        for _ in range(2):
            for file in sorted((schema_folder() / "views").glob("*.sql")):
                connection.execute(file.read_text(encoding="utf-8"))

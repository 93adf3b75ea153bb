"""Structure: what migrations give, and every way to differ from it."""

import duckdb
import pytest

from registry.database import Database
from registry.migration import migrate
from registry.resources import migrations
from registry.structure import Structure, compare

NEWEST = migrations()[-1][0]


def found_after(file, *statements):
    with duckdb.connect(str(file)) as connection:
        for statement in statements:
            connection.execute(statement)
    with Database(file).look() as reader:
        found = Structure.of(reader.connection)
    expected = Structure.expected(NEWEST)
    return {f.kind: (f.n, f.is_damage) for f in compare(found, expected, with_views=True)}


@pytest.mark.parametrize(
    ("statements", "kinds"),
    [
        ((), {}),
        (("drop view scores",), {"missing_view": (1, True)}),
        (("drop macro store.each",), {"missing_macro": (1, True)}),
        (("create view mine as select 1 as x",), {"strange_view": (1, False)}),
        (("create table store.mine (x int)",), {"strange_table": (1, False), "strange_column": (1, False)}),
        (("alter table store.pair alter seconds drop not null",), {"changed_column": (1, True)}),
        (("alter table store.pair add column mine int",), {"strange_column": (1, False)}),
        (("drop table store.pair",), {"missing_table": (1, True)}),
        (("drop index store.edge_child", "create index edge_child on store.edge (parent)"), {"changed_index": (1, True)}),
        (("create table store.o as from store.run", "drop table store.run", "alter table store.o rename to run"),
         {"missing_key": (1, True), "changed_column": (6, True)}),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else None,
)  # fmt: skip
def test_what_differs_is_told(statements, kinds, catalog):
    found = found_after(catalog.path, *statements)
    assert found.keys() == kinds.keys()
    for kind, (n, is_damage) in kinds.items():
        assert found[kind][1] is is_damage
        assert found[kind][0] >= n if kind == "changed_column" else found[kind][0] == n


@pytest.mark.parametrize("version", range(1, NEWEST + 1))
def test_every_version_is_what_its_migrations_make(version, tmp_path):
    file = tmp_path / "old.duckdb"
    with duckdb.connect(str(file)) as connection:
        migrate(connection, file, version)
    with duckdb.connect(str(file)) as connection:
        found = Structure.of(connection)
    assert list(compare(found, Structure.expected(version), with_views=False)) == []
    assert version == NEWEST or list(compare(found, Structure.expected(NEWEST), with_views=False))

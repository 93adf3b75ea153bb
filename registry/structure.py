"""The structure of a catalog's file: tables, columns, keys, indexes and views, beside those that migrations make."""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from registry.catalog_file import opened
from registry.finding import Finding, examples
from registry.migration import Connection, migrate
from registry.resources import migrations

Thing = tuple[str, str]
"""Schema and name of a table, a view or a macro; table and name of a column or an index."""

_OURS = "schema_name in ('store', 'main') and not internal"
_QUERIES = {
    "table": "select schema_name, table_name, '' from duckdb_tables()",
    "column": "select table_name, column_name, data_type || if(is_nullable, '', ' not null') from duckdb_columns() "
    "where schema_name = 'store' and table_name in (select table_name from duckdb_tables() where schema_name = 'store')",
    "key": "select table_name, constraint_type, cast(constraint_column_names as varchar) from duckdb_constraints() "
    "where schema_name = 'store' and constraint_type = 'PRIMARY KEY'",
    "index": "select table_name, index_name, cast(expressions as varchar) from duckdb_indexes()",
    "view": f"select schema_name, view_name, sql from duckdb_views() where {_OURS}",
    "macro": "select schema_name, function_name, string_agg(cast(parameters as varchar) || macro_definition, ' ' order by macro_definition) "
    f"from duckdb_functions() where {_OURS} and macro_definition is not null group by schema_name, function_name",
}  # fmt: skip
"""What things there are → (where, name, how it is made) of each."""

_DERIVED = ("view", "macro")
"""Things that hold no rows and are made anew in place."""

MAKE_VIEWS = ("delete from store.setting where key = 'views'", ())
"""After this, whoever opens the catalog next makes views and macros anew."""

MADE_ANEW = "the rows are copied into a new file of the right structure, and the old one is kept"
"""What a repair of what holds rows, or finds them, does."""


@dataclass(frozen=True)
class Structure:
    """What a database is made of: for each sort of thing, each thing and how it is made."""

    things: dict[str, dict[Thing, str]]

    @classmethod
    def of(cls, connection: Connection) -> "Structure":
        """That of an open database."""
        return cls({
            kind: {(place, name): made for place, name, made in _rows(connection, sql)}
            for kind, sql in _QUERIES.items()
        })  # fmt: skip

    @classmethod
    @cache
    def expected(cls, version: int) -> "Structure":
        """That which migrations give: with views where the version is today's, for who knows those of others?

        It is that of a file that was closed: DuckDB writes views down in other words than it was given.
        """
        newest = migrations()[-1][0]
        with tempfile.TemporaryDirectory(prefix="homolog-") as folder:
            file = Path(folder) / "expected.duckdb"
            with opened(file) as connection:
                migrate(connection, file, None if version == newest else version)
            with opened(file) as connection:
                return cls.of(connection)


def compare(found: Structure, expected: Structure, *, with_views: bool) -> Iterator[Finding]:
    """What differs, worst first; a table that is not there is not told column by column."""
    lacking = {name for _, name in expected.things["table"].keys() - found.things["table"].keys()}
    for kind in _QUERIES:
        if kind in _DERIVED and not with_views:
            continue
        there, wanted = found.things[kind], expected.things[kind]
        missing = sorted(t for t in wanted.keys() - there.keys() if t[0] not in lacking)
        changed = sorted(t for t in wanted.keys() & there.keys() if wanted[t] != there[t])
        for what, things in (("missing", missing), ("changed", changed)):
            if things:
                yield _finding(kind, what, things, found)
        strange = sorted(there.keys() - wanted.keys())
        if strange and kind != "key":
            told = f"{_listed(strange)}: made by somebody else"
            yield Finding(
                f"strange_{kind}", kind, len(strange), told, is_damage=False, repair="left alone"
            )


def _finding(kind: str, what: str, things: list[Thing], found: Structure) -> Finding:
    """Things of one sort that are missing, or are not what they should be."""
    plural = "indexes" if kind == "index" else f"{kind}s"
    detail = (
        f"{plural} {'missing' if what == 'missing' else 'not as they should be'}: {_listed(things)}"
    )
    if kind in _DERIVED and not any(thing in found.things["table"] for thing in things):
        return Finding(
            f"{what}_{kind}", kind, len(things), detail, repair="made anew", mends=(MAKE_VIEWS,), can_repair=True,
        )  # fmt: skip
    lost = "what was in them" if what == "missing" and kind in ("table", "column") else ""
    return Finding(
        f"{what}_{kind}", kind, len(things), detail, lost, MADE_ANEW, can_repair=True, needs_rebuild=True
    )  # fmt: skip


def _listed(things: Iterable[Thing]) -> str:
    """Things in a sentence."""
    names = [f"{place}.{name}" for place, name in things]
    return examples(names, len(names))


def _rows(connection: Connection, sql: str) -> list[Any]:
    """The rows of a query."""
    rows: list[Any] = connection.execute(sql).fetchall()
    return rows

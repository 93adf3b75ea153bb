"""What a catalog holds, seen by somebody who opens its file afresh: rows that can be compared, and rows that contradict."""

import re
import time
from pathlib import Path
from typing import Any

import duckdb

from registry.database import Reader
from registry.indexes import broken_indexes
from registry.records import references
from registry.spare_blocks import mend

Rows = dict[str, list[str]]
"""Table → its rows as text, sorted."""

_CLOCKS = frozenset((
    "number", "child_number", "parent_number", "model_number",  # which follow from what was done in which order
    "created_at", "changed_at", "seen_at", "known_since", "applied_at", "measured_at", "inferred_at", "taken_at", "scored_at",
    "started_at", "ended_at", "seconds", "process", "mtime_ns", "inode",
))  # fmt: skip
"""Columns that differ between two runs that do the same."""

KEYS = {
    "model": "id", "tensor": "model_id, name", "address": "uri", "file": "uri, path", "sketch": "model_id, spec",
    "pair": "child, base", "delta": "child, base, tensor", "histogram": "child, base, tensor", "score": "id",
    "recipe": "digest", "run": "id", "edge": "child, parent, relation, role", "claim": "id", "problem": "uri, file, error",
    "alias": "name", "alias_event": "name, step",
}  # fmt: skip
"""Tables with the columns by which their rows are known again."""

_WRONG = {
    "tensors of a model, but not all": (
        "select id, n_tensors, count(t.name) as n from store.model m left join store.tensor t on t.model_id = m.id "
        "where n_tensors is not null group by all having n not in (n_tensors, 0) or (n = 0 and n_tensors > 0)"
    ),
    "a place without its files": (
        "select uri from store.address where source <> 'listing' and uri not in (select uri from store.file)"
    ),
    "files of no place": (
        "select distinct uri from store.file where uri not in (select uri from store.address) "
        "and uri not in (select uri from store.problem)"
    ),
    "claims of no place": "select uri from store.claim where uri not in (select uri from store.address)",
    "a model in no place": (
        "select id from store.model where status in ('header', 'sampled', 'listed') "
        "and id not in (select model_id from store.address) and id not in (select model_id from store.alias)"
    ),
    "an alias that is not what its last event says": (
        "select name, model_id, new_id from store.alias full join (from store.alias_event qualify row_number() over "
        "(partition by name order by step desc) = 1) using (name) where model_id is distinct from new_id"
    ),
    "a latent model that nobody descends from": (
        "select id from store.model where status = 'latent' and id not in (select parent from store.edge) "
        "and id not in (select child from store.edge)"
    ),
    "a pair without all of its tensors": (
        "select child, base, n_aligned + n_cropped + n_only_child + n_only_base + n_mismatched + n_uncounted as said, "
        "count(d.tensor) as n from store.pair p left join store.delta d using (child, base) group by all having said <> n"
    ),
    "a delta of no pair": "select child, base from store.delta anti join store.pair using (child, base)",
    "a histogram of no delta": (
        "select child, base, tensor from store.histogram anti join store.delta using (child, base, tensor)"
    ),
    "a reason for no edge": (
        "select child, parent, relation from store.evidence e where method in ('claim', 'run', 'cast') and not exists "
        "(select 1 from store.edge where child = e.child and parent = e.parent and relation = e.relation "
        "and status = e.status)"
    ),
    "a recorded merge of no run": (
        "select child, run_id from store.edge where relation = 'merge' and status = 'recorded' "
        "and run_id not in (select id from store.run where status = 'COMPLETE')"
    ),
    "a complete run without its model": (
        "select id from store.run where status = 'COMPLETE' "
        "and (model_id is null or output not in (select uri from store.address where model_id = run.model_id))"
    ),
}  # fmt: skip
"""What is wrong → a query that finds it."""


def _opened(path: Path) -> duckdb.DuckDBPyConnection:
    """A connection that changes nothing; who was just killed may hold the file until the system has buried it.

    What a checkpoint has torn is put back first, as whoever opens the catalog with `reg` does.
    """
    deadline = time.monotonic() + _BURIED_SECONDS
    while True:
        mend(path)
        try:
            return duckdb.connect(str(path), read_only=True)
        except duckdb.IOException as error:
            if "Could not set lock" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


_BURIED_SECONDS = 20.0


class Ledger:
    """The rows of a catalog's file, read by a connection of its own that changes nothing."""

    def __init__(self, path: Path) -> None:
        with _opened(path) as connection:
            self.tables: dict[str, list[dict[str, Any]]] = {}
            for (table,) in connection.execute(
                "select table_name from duckdb_tables() where schema_name = 'store' order by 1"
            ).fetchall():
                cursor = connection.execute(f"select * from store.{table}")
                names = [column[0] for column in cursor.description or ()]
                self.tables[table] = [
                    dict(zip(names, row, strict=True)) for row in cursor.fetchall()
                ]
            self.version = max((row["version"] for row in self.tables["migration"]), default=0)
            self.wrong = self._wrong(connection) if self.version >= 11 else []

    def _wrong(self, connection: duckdb.DuckDBPyConnection) -> list[str]:
        """Rows that contradict each other, in words."""
        queries = dict(_WRONG)
        for target, key in (("model", "id"), ("recipe", "digest")):
            for table, column in references(target):
                queries[f"{table}.{column} refers to no {target}"] = (
                    f"select {column} from store.{table} where {column} is not null "
                    f"and {column} not in (select {key} from store.{target})"
                )
        found = []
        for what, query in queries.items():
            if rows := connection.execute(query).fetchmany(3):
                found.append(f"{what}: {rows}")
        return found + [f"{f.where} {f.detail}" for f in broken_indexes(Reader(connection))]

    def keys(self) -> dict[str, set[tuple[Any, ...]]]:
        """Table → the keys of its rows; models and edges that only hold a place for others are left out."""
        found = {}
        for table, key in KEYS.items():
            rows = self.tables.get(table, [])
            if table == "model":
                rows = [row for row in rows if row["status"] not in ("latent", "listed")]
            if table == "edge":
                rows = [row for row in rows if row["status"] in ("recorded", "measured")]
            columns = key.split(", ")
            if rows and not set(columns) <= rows[0].keys():
                continue  # an older shape
            found[table] = {tuple(row[column] for column in columns) for row in rows}
        return found

    def lost(self, before: "Ledger") -> list[tuple[str, tuple[Any, ...]]]:
        """Rows that were there before and are not any more: table, key."""
        mine = self.keys()
        return [
            (table, key)
            for table, keys in before.keys().items()
            for key in sorted(keys - mine.get(table, set()), key=repr)
        ]

    def rows(self) -> Rows:
        """What two runs that did the same have in common: without clocks, and runs by what they did."""
        found: Rows = {}
        for table, rows in self.tables.items():
            if table == "run":
                rows = [row | {"id": ""} for row in rows if row["status"] == "COMPLETE"]  # noqa: PLW2901
            if table == "evidence":
                rows = [row | {"id": ""} if row["method"] == "run" else row for row in rows]  # noqa: PLW2901
            found[table] = sorted(map(_text, rows))
        return found

    def differs(self, other: "Ledger") -> list[str]:
        """Rows that only one of two catalogs has."""
        mine, others, found = self.rows(), other.rows(), []
        for table in sorted(mine.keys() | others.keys()):
            a, b = mine.get(table, []), others.get(table, [])
            if a != b:
                found.append(f"{table}: {len(a)} rows and {len(b)} rows; {_first(a, b)}")
        return found


def _text(row: dict[str, Any]) -> str:
    """A row without clocks, and without the names of runs, which are drawn."""
    shown = repr([(k, v) for k, v in row.items() if k not in _CLOCKS and k != "run_id"])
    return re.sub(r"\brun [0-9a-f]{12}\b", "run", shown)


def _first(a: list[str], b: list[str]) -> str:
    """A row of each that the other has not."""
    only_a, only_b = (
        sorted(set(a) - set(b))[:1] or a[:1],
        sorted(set(b) - set(a))[:1] or b[:1],
    )
    return f"only here {only_a}, only there {only_b}"[:1500]

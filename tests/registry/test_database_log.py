"""What a killed process left in the log is in tables and indexes alike, whoever opens the catalog next, and for what."""

import subprocess
import sys
from contextlib import suppress

import pytest

from registry.database import Database

INTERRUPTED = """
import os, pathlib, sys
from registry.database import Database
database = Database(pathlib.Path(sys.argv[1]))
with database._open_to_write() as connection:
    connection.execute(sys.argv[2])
    os._exit(9)
"""
ADD = "insert into store.claim (id, uri, model_id, predicate, object, source, raw, resolved_id) values ('{0}', '', '', '', '', '', '', '{1}')"
CHANGES = {
    "added": (ADD.format("new", "m8"), {"m8": ["new"]}),
    "taken away": ("delete from store.claim where id = '3'", {"m3": []}),
    "changed": ("update store.claim set resolved_id = 'm9' where id = '3'", {"m3": [], "m9": ["3"]}),
    "replaced": (ADD.format("3", "m9").replace("insert", "insert or replace"), {"m3": [], "m9": ["3"]}),
}  # fmt: skip


def found(database, model, column="resolved_id"):
    rows = database.rows(f"select id from store.claim where {column} = '{model}' order by id")
    return [row["id"] for row in rows]


def nothing(database):
    with database.write():
        pass


def something(database):
    with database.write() as transaction:
        transaction.execute("insert or replace into store.setting values ('a', 'b')")


def a_failure(database):
    with suppress(ZeroDivisionError), database.write() as transaction:
        transaction.execute("insert or replace into store.setting values ('a', 'b')")
        raise ZeroDivisionError


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("then", [nothing, something, a_failure])
def test_indexes_hold_what_was_in_the_log(change, then, tmp_path):
    database = Database(tmp_path / "catalog.duckdb", wait_seconds=5)
    with database.write() as transaction:
        for i in range(8):
            transaction.execute(ADD.format(i, f"m{i}"))
    sql, expected = CHANGES[change]
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, database.path, sql], check=False)
    assert done.returncode == 9
    log = tmp_path / "catalog.duckdb.wal"
    assert log.stat().st_size
    for _ in range(2):
        for model, uris in expected.items():
            assert found(database, model) == found(database, model, "resolved_id || ''") == uris
        then(database)
    something(database)
    assert not log.exists()

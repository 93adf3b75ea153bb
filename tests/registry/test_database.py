"""The catalog's file: versions, locks, crashes, damage, and what goes in comes out."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import duckdb
import pytest

from registry.database import Database
from registry.errors import (
    CatalogDamaged,
    CatalogLocked,
    CatalogMissing,
    CatalogTooNew,
    NotEnoughDisk,
    RunFailed,
)
from registry.resources import migrations

ROOT = Path(__file__).parents[2]

STRUCTURE = (
    "select table_name, column_name, data_type, is_nullable, column_default from duckdb_columns() "
    "where not internal order by all",
    "select schema_name, table_name, comment from duckdb_tables() order by all",
    "select table_name, constraint_type, constraint_text from duckdb_constraints() order by all",
    "select table_name, index_name, expressions from duckdb_indexes() order by all",
    "select schema_name, view_name, sql, comment from duckdb_views() where not internal order by all",
    "select function_name, macro_definition from duckdb_functions() "
    "where schema_name = 'store' order by all",
)


@pytest.fixture
def absent(tmp_path):
    """A catalog that is not there yet."""
    return Database(tmp_path / "catalog.duckdb", wait_seconds=10.0)


@pytest.fixture
def database(absent, _empty_catalog):
    """A catalog that was made before."""
    absent.path.write_bytes(_empty_catalog)
    return absent


def settings(database):
    return {
        r["key"]: r["value"]
        for r in database.rows("select key, value from store.setting where key <> 'views'")
    }


def put(database, **values):
    with database.write() as transaction:
        columns = {"key": list(values), "value": list(values.values())}
        transaction.insert("setting", columns, "replace")


def python(code, *arguments):
    """Another process that runs ``code`` with the project on its path."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def holding(database, how="False"):
    """Another process that holds the file until its input ends."""
    holder = python(
        f"""
        import duckdb, sys
        connection = duckdb.connect(sys.argv[1], read_only={how})
        print("held", flush=True)
        sys.stdin.read()
        """,
        database.path,
    )
    assert holder.stdout.readline() == "held\n"
    return holder


def ended(process):
    process.stdin.close()
    process.wait(10)
    process.stdout.close()


def test_reading_before_the_first_write_says_how_to_begin(absent):
    with pytest.raises(CatalogMissing) as caught:
        absent.rows("select 1")
    assert str(absent.path) in caught.value.message
    assert "reg scan" in caught.value.hint
    assert not absent.path.exists()


def test_an_empty_file_is_no_catalog_yet(absent):
    absent.path.touch()
    with pytest.raises(CatalogMissing):
        absent.rows("select 1")
    put(absent, a="1")
    assert settings(absent) == {"a": "1"}


def test_the_first_write_applies_every_migration(absent):
    put(absent, a="1")
    applied = absent.rows("select version, name from store.migration order by version")
    assert [(r["version"], r["name"]) for r in applied] == [(v, f.stem) for v, f in migrations()]


def test_a_second_opening_changes_nothing(database):
    put(database, a="1")
    before = database.path.read_bytes(), database.path.stat().st_mtime_ns
    again = Database(database.path)
    assert settings(again) == {"a": "1"}
    assert (database.path.read_bytes(), database.path.stat().st_mtime_ns) == before


def test_an_old_version_upgraded_equals_a_fresh_one(tmp_path):
    fresh, old = Database(tmp_path / "fresh.duckdb"), Database(tmp_path / "old.duckdb")
    put(fresh, a="1")
    version, file = migrations()[0]
    with duckdb.connect(str(old.path)) as connection:
        connection.execute(file.read_text())
        connection.execute("insert into store.migration values (?, 'first', now())", [version])
        connection.execute("insert into store.setting values ('a', 'kept')")
    assert settings(old) == {"a": "kept"}
    for sql in STRUCTURE:
        assert old.rows(sql) == fresh.rows(sql)
        assert fresh.rows(sql)


def test_a_newer_version_is_refused_by_readers_and_writers(database):
    put(database, a="1")
    with duckdb.connect(str(database.path)) as connection:
        connection.execute("insert into store.migration values (9999, 'future', now())")
    before = database.path.read_bytes()
    for use in (lambda: Database(database.path).rows("select 1"), lambda: put(database, a="2")):
        with pytest.raises(CatalogTooNew, match="9999") as caught:
            use()
        assert "upgrade" in caught.value.hint
    assert database.path.read_bytes() == before


def test_views_are_made_again_when_their_text_changed(database):
    put(database, a="1")
    with duckdb.connect(str(database.path)) as connection:
        connection.execute("create or replace view models as select 'of an older version' as id")
        connection.execute("update store.setting set value = 'another' where key = 'views'")
    again = Database(database.path)
    assert again.rows("select * from models") == []
    assert settings(again) == {"a": "1"}


def test_a_file_that_is_no_database_is_damaged_and_left_alone(database):
    database.path.write_text("hello, world\n" * 1000)
    before = database.path.read_bytes()
    for use in (lambda: database.rows("select 1"), lambda: put(database, a="1")):
        with pytest.raises(CatalogDamaged, match="not a valid DuckDB database") as caught:
            use()
        assert str(database.path) in caught.value.message
    assert database.path.read_bytes() == before


def test_a_corrupt_block_is_damage_and_not_a_lock_to_wait_for(database):
    put(database, a="1")
    content = bytearray(database.path.read_bytes())
    content[4096 + 100] ^= 0xFF
    content[8192 + 100] ^= 0xFF
    database.path.write_bytes(content)
    started = time.monotonic()
    with pytest.raises(CatalogDamaged, match=r"[Cc]orrupt"):
        Database(database.path).rows("select 1")
    assert time.monotonic() - started < 5


def test_the_database_of_another_program_is_left_alone(absent):
    with duckdb.connect(str(absent.path)) as connection:
        connection.execute("create table theirs as select 42 as answer")
    for use in (lambda: absent.rows("select 1"), lambda: put(absent, a="1")):
        with pytest.raises(CatalogDamaged, match="no catalog"):
            use()
    with duckdb.connect(str(absent.path)) as connection:
        assert connection.execute("select table_name from duckdb_tables()").fetchall() == [
            ("theirs",)
        ]


@pytest.mark.parametrize("inner", ["c.duckdb", "deeper/c.duckdb"])
def test_a_place_that_cannot_be_is_named(tmp_path, inner):
    (tmp_path / "file").touch()
    with pytest.raises(CatalogDamaged, match="cannot be made") as caught:
        put(Database(tmp_path / "file" / inner), a="1")
    assert "REG_CATALOG" in caught.value.hint


def test_a_full_disk_keeps_what_was_there(database):
    put(database, a="1")
    process = python(
        """
        import resource, signal, sys
        from pathlib import Path
        from registry.database import Database
        from registry.errors import NotEnoughDisk
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        size = Path(sys.argv[1]).stat().st_size + 500_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        try:
            with Database(Path(sys.argv[1])).write() as transaction:
                transaction.execute(
                    "insert into store.setting select 'k' || range, md5(range::varchar) from range(500000)")
        except NotEnoughDisk as error:
            print(error.message)
        """,
        database.path,
    )
    told, _ = process.communicate(timeout=60)
    assert str(database.path) in told
    assert "was not kept" in told
    assert settings(database) == {"a": "1"}
    put(database, b="2")
    assert settings(database) == {"a": "1", "b": "2"}
    assert issubclass(NotEnoughDisk, RunFailed.__base__)


def test_an_error_inside_a_transaction_leaves_nothing(database):
    put(database, a="1")

    def fail():
        with database.write() as transaction:
            transaction.insert("setting", {"key": ["b"], "value": ["2"]})
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert settings(database) == {"a": "1"}


def test_a_key_twice_fails_keeps_or_replaces(database):
    put(database, a="1")
    columns = {"key": ["a", "b"], "value": ["2", "2"]}

    def insert(conflict):
        with database.write() as transaction:
            transaction.insert("setting", columns, conflict)

    with pytest.raises(duckdb.ConstraintException):
        insert("error")
    assert settings(database) == {"a": "1"}
    insert("nothing")
    assert settings(database) == {"a": "1", "b": "2"}
    insert("replace")
    assert settings(database) == {"a": "2", "b": "2"}


def test_deleting_and_inserting_a_key_in_one_transaction_works(database):
    put(database, a="1")
    with database.write() as transaction:
        assert transaction.execute("delete from store.setting where key = ?", ["a"]) == 1
        assert transaction.insert("setting", {"key": ["a"], "value": ["2"]}) == 1
        assert transaction.rows("select value from store.setting where key = 'a'") == [
            {"value": "2"}
        ]
    assert settings(database) == {"a": "2"}


def test_no_rows_are_inserted_without_a_statement(database):
    with database.write() as transaction:
        assert transaction.insert("setting", {}) == 0
        assert transaction.insert("setting", {"key": [], "value": []}) == 0


def test_half_a_surrogate_pair_does_not_end_the_database(database):
    put(database, **{"bad \ud800": "also \udcff", "zero \0": "é ☃ \U0001f600"})
    assert settings(database) == {"bad \\ud800": "also \\udcff", "zero \0": "é ☃ \U0001f600"}
    assert database.rows("select ? as x", ["\udcff"]) == [{"x": "\\udcff"}]


def test_a_list_is_given_as_one_parameter(database):
    put(database, a="1", b="2", c="3")
    rows = database.rows(
        "select key from store.setting where key in (select store.each(?)) order by key",
        [["c", "a", "it's"]],
    )
    assert [r["key"] for r in rows] == ["a", "c"]
    assert database.rows("select store.each(?) as x", [[]]) == []


def test_a_lock_of_another_process_is_named_after_the_wait(database):
    put(database, a="1")
    holder = holding(database)
    impatient = Database(database.path, wait_seconds=0.3)
    for use in (lambda: impatient.rows("select 1"), lambda: put(impatient, a="2")):
        started = time.monotonic()
        with pytest.raises(CatalogLocked, match=f"held by process {holder.pid} ") as caught:
            use()
        assert 0.3 <= time.monotonic() - started < 3
        assert str(holder.pid) in caught.value.hint
    ended(holder)
    assert settings(impatient) == {"a": "1"}


def test_a_writer_waits_for_readers_and_readers_do_not_wait_for_each_other(database):
    put(database, a="1")
    holder = holding(database, how="True")
    assert settings(Database(database.path, wait_seconds=0.0)) == {"a": "1"}
    with pytest.raises(CatalogLocked, match=str(holder.pid)):
        put(Database(database.path, wait_seconds=0.2), a="2")
    threading.Timer(0.3, ended, [holder]).start()
    put(database, a="3")
    assert settings(database) == {"a": "3"}


def test_threads_of_one_process_take_turns(database):
    put(database, n="0")

    def count():
        for _ in range(5):
            with Database(database.path).write() as transaction:
                n = transaction.rows("select value from store.setting where key = 'n'")[0]["value"]
                transaction.insert("setting", {"key": ["n"], "value": [str(int(n) + 1)]}, "replace")
            assert int(settings(Database(database.path))["n"]) > 0

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert settings(database) == {"n": "15"}


def test_a_transaction_inside_a_transaction_is_refused_and_not_waited_for_forever(tmp_path):
    database = Database(tmp_path / "c.duckdb", wait_seconds=0.2)
    put(database, a="1")

    def nest(use):
        with database.write():
            use()

    for use in (lambda: put(database, a="2"), lambda: settings(database)):
        with pytest.raises(CatalogLocked, match=f"{os.getpid()}, which is this one"):
            nest(use)
    assert settings(database) == {"a": "1"}


WRITER = """
    import sys
    from pathlib import Path
    from registry.database import Database
    database, name, n = Database(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
    for i in range(n):
        with database.write() as transaction:
            keys = [f"{name} {i} {k}" for k in range(10)]
            transaction.insert("setting", {"key": keys, "value": keys})
        print(i, flush=True)
    """


def test_a_reader_sees_whole_transactions_while_others_write(database):
    put(database, a="1")
    writers = [python(WRITER, database.path, name, 8) for name in ("one", "two")]
    seen = []
    while any(writer.poll() is None for writer in writers):
        seen.append(len(settings(database)) - 1)
        time.sleep(0.02)
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    assert len(settings(database)) == 161
    assert all(n % 10 == 0 for n in seen)
    assert seen == sorted(seen)


def test_a_killed_writer_leaves_whole_transactions_and_loses_no_acknowledged_one(database):
    put(database, a="1")
    acknowledged = 0
    for round_ in range(3):
        writer = python(WRITER, database.path, f"round {round_}", 10_000)
        for _ in range(3 + round_):
            assert writer.stdout.readline()
        time.sleep(0.007 * round_)
        writer.send_signal(signal.SIGKILL)
        rest, _ = writer.communicate()
        acknowledged += 3 + round_ + rest.count("\n")
        n = len(settings(database)) - 1
        assert n % 10 == 0
        assert n // 10 - acknowledged in (0, 1)
        acknowledged = n // 10

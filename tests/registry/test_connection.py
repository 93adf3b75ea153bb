"""Connections to catalogs: what is read is attached to one instance, and let go when nobody reads."""

import os
import subprocess
import sys
import threading

import duckdb
import pytest

import registry.connection
from registry.connection import forget_instance
from registry.database import Database
from registry.errors import CatalogDamaged, CatalogLocked

COUNT = "select count(*) as n from store.setting where key = 'a'"
WRITER = "import duckdb, sys; duckdb.connect(sys.argv[1]).close()"


@pytest.fixture
def database(tmp_path):
    return made(tmp_path / "catalog.duckdb")


def made(path, wait_seconds=0.2):
    database = Database(path, wait_seconds=wait_seconds)
    with database.write() as transaction:
        transaction.execute("insert into store.setting values ('a', ?)", [path.name])
    return database


def others_can_write(database):
    return not subprocess.run([sys.executable, "-c", WRITER, database.path], capture_output=True).returncode  # noqa: PLW1510  # fmt: skip


def test_instances_are_started_for_writers_and_once_for_readers(database, monkeypatch):
    started, real = [], duckdb.connect
    monkeypatch.setattr(duckdb, "connect", lambda *a, **k: started.append(a) or real(*a, **k))
    forget_instance()
    for _ in range(3):
        assert database.rows(COUNT) == [{"n": 1}]
    assert started == [()]
    with database.write():
        pass
    assert started == [(), (str(database.path),)]


def test_readers_of_one_file_share_it_and_the_last_lets_it_go(database):
    with database.read() as first:
        with database.read() as second, Database(database.path).read() as third:
            assert first.rows(COUNT) == second.rows(COUNT) == third.rows(COUNT) == [{"n": 1}]
        assert first.rows(COUNT) == [{"n": 1}]
        assert not others_can_write(database)
    assert others_can_write(database)


def test_readers_of_several_files_see_each_their_own(tmp_path):
    names = [f"{name}.duckdb" for name in ("one", "o'ne", 't"wo', "drei; drop")]
    all_of_them = [made(tmp_path / name) for name in names]
    with all_of_them[0].read() as a, all_of_them[1].read() as b, all_of_them[2].read() as c:
        found = [r.rows("select value from store.setting where key = 'a'") for r in (a, b, c)]
    assert found == [[{"value": name}] for name in names[:3]]
    assert all_of_them[3].rows(COUNT) == [{"n": 1}]


def test_who_writes_waits_for_who_reads_in_the_same_process(database):
    with database.read(), pytest.raises(CatalogLocked, match="this one"), database.write():
        pass
    with database.write(), pytest.raises(CatalogLocked, match="this one"):
        database.rows(COUNT)
    with database.look(), pytest.raises(CatalogLocked, match="this one"):
        database.rows(COUNT)
    with database.read(), pytest.raises(CatalogLocked, match="this one"), database.look():
        pass
    assert database.rows(COUNT) == [{"n": 1}]


def test_a_file_that_is_no_database_harms_no_other(database, tmp_path):
    bad = tmp_path / "bad.duckdb"
    bad.write_bytes(bytes(5000))
    with database.read() as reader:
        with pytest.raises(CatalogDamaged, match="not a valid DuckDB"):
            Database(bad).rows("select 1")
        assert reader.rows(COUNT) == [{"n": 1}]
    assert database.rows(COUNT) == [{"n": 1}]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_file_is_let_go_when_ctrl_c_comes_while_it_is_attached(database, monkeypatch, error):
    database.rows(COUNT)

    class Struck(registry.connection._Use):
        def __setattr__(self, name, value):
            if name == "n" and value == 1:
                monkeypatch.undo()
                raise error
            super().__setattr__(name, value)

    monkeypatch.setattr(registry.connection, "_Use", Struck)
    with pytest.raises(error):
        database.rows(COUNT)
    assert others_can_write(database)
    assert database.rows(COUNT) == [{"n": 1}]


def test_an_instance_that_is_forgotten_serves_who_reads_and_then_goes(database):
    with database.read() as old:
        forget_instance()
        assert old.rows(COUNT) == [{"n": 1}]
        with database.read() as new:
            assert new.rows(COUNT) == [{"n": 1}]
    assert others_can_write(database)
    assert database.rows(COUNT) == [{"n": 1}]


def test_a_forked_process_reads_with_an_instance_of_its_own(database):
    database.rows(COUNT)
    child = os.fork()
    if not child:
        try:
            os._exit(0 if database.rows(COUNT) == [{"n": 1}] else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert database.rows(COUNT) == [{"n": 1}]


def test_threads_that_read_and_write_at_once_lose_nothing(tmp_path):
    database, errors = made(tmp_path / "catalog.duckdb", wait_seconds=30), []

    def work(number):
        try:
            for turn in range(6):
                if (turn + number) % 3:
                    assert database.rows(COUNT) == [{"n": 1}]
                else:
                    with database.write() as transaction:
                        transaction.execute(
                            "insert into store.setting values (?, 'x')", [f"{number}.{turn}"]
                        )
        except Exception as error:  # noqa: BLE001 - told by the test
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    (counted,) = database.rows("select count(*) as n from store.setting where value = 'x'")
    assert counted == {"n": 12}
    assert others_can_write(database)


def test_what_does_not_fit_into_memory_is_put_down_beside_the_catalog_and_removed(tmp_path):
    program = (
        "import sys, pathlib\n"
        "from registry.database import Database\n"
        "with Database(pathlib.Path(sys.argv[1])).read() as reader:\n"
        "    reader.connection.execute(\"set memory_limit = '60MB'\")\n"
        "    reader.connection.execute('select range as a, md5(range::varchar) as b from range(2_000_000) order by b').fetchone()\n"
        "    print(*pathlib.Path(sys.argv[1]).parent.rglob('*.tmp*'))\n"
    )
    database = made(tmp_path / "here" / "catalog.duckdb")
    said = subprocess.run(
        [sys.executable, "-c", program, database.path],
        capture_output=True, text=True, cwd=tmp_path, check=True,
    )  # fmt: skip
    assert "catalog.duckdb.tmp" in said.stdout
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["catalog.duckdb", "here"]

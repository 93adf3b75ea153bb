"""SQL of users: it reads the catalog and can do nothing else."""

import io
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from conftest import save_model

from registry.catalog import Catalog
from registry.errors import BadSql, CatalogMissing, SqlRefused
from registry.scan import scan
from registry.sealed import Result, _parts, query

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def catalog(family, tmp_path_factory, _empty_catalog):
    """A catalog of three models, shared: nothing here can change it."""
    made = Catalog(tmp_path_factory.mktemp("sealed") / "c.duckdb")
    made.path.write_bytes(_empty_catalog)
    scan(made, [str(family.base), str(family.chat), str(family.math)])
    return made


@pytest.fixture(autouse=True)
def _nothing_changes(catalog, tmp_path, monkeypatch):
    """Whatever is asked: the catalog's bytes stay, and no file appears."""
    monkeypatch.chdir(tmp_path)
    before = catalog.path.read_bytes()
    yield
    assert catalog.path.read_bytes() == before
    assert [p.name for p in catalog.path.parent.iterdir()] == ["c.duckdb"]
    assert [p.name for p in tmp_path.iterdir() if p.name != "made.parquet"] == []


def test_a_result_has_columns_types_and_records(catalog):
    found = query(catalog.database, "select name, n_params, names from models order by name")
    assert found.columns == (("name", "VARCHAR"), ("n_params", "BIGINT"), ("names", "VARCHAR[]"))
    assert next(found.records()) == {"name": "base", "n_params": 5424, "names": ["base"]}


def test_two_columns_of_one_name_are_two_columns(catalog):
    found = query(catalog.database, "select 1 as x, 2 as x")
    assert [name for name, _ in found.columns] == ["x", "x"]
    assert found.rows == [(1, 2)]


@pytest.mark.parametrize(
    ("sql", "error", "message"),
    [
        ("from models; from edges", SqlRefused, "2 statements"),
        ("from read_text('/etc/passwd')", SqlRefused, "disabled by configuration"),
        ("from modles", BadSql, "models"),
        ("", BadSql, "no statement"),
        ("select '\udc80'", BadSql, "not UTF-8"),
        ("select '\0'", BadSql, "unterminated"),
    ],
)
def test_what_the_cell_refuses_is_said_with_a_hint(catalog, sql, error, message):
    with pytest.raises(error, match=message) as caught:
        query(catalog.database, sql)
    assert caught.value.hint


def test_values_of_every_type_come_through(catalog):
    found = query(catalog.database, "from test_all_types()")
    assert len(found.columns) > 50
    assert len(found.rows) == 3
    (row,) = query(
        catalog.database,
        "select now(), date '2026-01-02', time '01:02:03', '01:02:03+01'::timetz, uuid(), 1.5::decimal(9, 2), "
        "interval 90 second, 'a'::blob, {'a': [1, null]}, map {1: 'x'}, timestamp_ns '2026-01-02 03:04:05'",
    ).rows
    assert row[1:4] == (date(2026, 1, 2), clock(1, 2, 3), clock(1, 2, 3, tzinfo=row[3].tzinfo))
    assert row[5:10] == (Decimal("1.5"), timedelta(seconds=90), b"a", {"a": [1, None]}, {1: "x"})


# --- Bounds that the system keeps


ENDLESS = {
    "cross join": "select count(*) from range(10000000) a, range(10000000) b",
    "recursion": "with recursive t(i) as (select 1 union all select i + 1 from t) select count(*) from t",
    "one call": "select levenshtein(repeat('xy', 500000), repeat('yx', 500000))",
    "long names for joins": "select count(*) from " + ", ".join(f"models m{i}" for i in range(300)),
    "binding": "select " + "abs(" * 900 + "1" + ")" * 900,
    "many branches": " union all ".join(["select 1"] * 10_000),
    "doubling": "with a0 as (select 1 as x), "
    + ", ".join(f"a{i} as (select {{'a': x, 'b': x}} as x from a{i - 1})" for i in range(1, 40))
    + " select x from a39",
}


@pytest.mark.parametrize("sql", ENDLESS.values(), ids=ENDLESS)
def test_a_runaway_ends_by_the_clock_also_where_duckdb_does_not_look_up(catalog, sql):
    started = time.monotonic()
    with pytest.raises(BadSql, match=r"longer than 0\.3 seconds") as caught:
        query(catalog.database, sql, max_seconds=0.3)
    assert time.monotonic() - started < 10
    assert "WHERE or LIMIT" in caught.value.hint


@pytest.mark.parametrize(
    "sql",
    [
        "select length(repeat('x', 4000000000))",
        "select length(format('{:>2000000000}', 1))",
        "select repeat('x', 1000000) from range(100000)",
        "select len(list_resize([1], 2000000000, 2))",
    ],
)
def test_memory_that_duckdb_does_not_count_is_bounded_too(catalog, sql):
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    with pytest.raises(BadSql, match=r"needs more than 1GB of memory|more than .* bytes|longer"):
        query(catalog.database, sql, max_seconds=3)
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert most == before or most < (5 << 19)  # KiB: 2.5 GiB


def test_a_statement_that_crashes_duckdb_ends_by_its_name(catalog):
    sql = "select json_structure((repeat('{\"a\":', 100000) || '1' || repeat('}', 100000)))"
    with pytest.raises(BadSql, match="ended DuckDB's process with SIGSEGV") as caught:
        query(catalog.database, sql)
    assert caught.value.hint
    assert query(catalog.database, "select 1").rows == [(1,)]


def test_a_statement_of_megabytes_is_not_read(catalog):
    sql = f"select length('{'x' * 990_000}')"
    assert query(catalog.database, sql).rows == [(990_000,)]
    with pytest.raises(BadSql, match="has 10,000,017 characters; at most 1,000,000 are read"):
        query(catalog.database, f"select length('{'x' * 10_000_000}')")


def test_the_cell_can_open_no_file_even_where_duckdb_would(catalog, tmp_path):
    code = (
        "import sys, duckdb\nfrom registry.cell import _close_the_door\n"
        "connection = duckdb.connect()\n_close_the_door(30)\n"
        "for sql in (\"copy (select 1) to '{0}'\", \"from read_text('/etc/passwd')\", \"attach '{0}' as a\"):\n"
        "    try: connection.execute(sql.format(sys.argv[1]))\n"
        "    except duckdb.IOException as error: print(error)\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "x")]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert said.count("Too many open files") == 3


def test_a_cell_that_sends_more_than_values_is_not_believed():
    bad = pickle.dumps(("rows", [os.system]))
    stream = io.BytesIO(len(bad).to_bytes(8, "big") + bad)
    with pytest.raises(pickle.UnpicklingError, match="is no value of a query"):
        list(_parts(stream))


def test_the_cell_knows_nothing_of_our_environment(catalog, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    (row,) = query(catalog.database, "select string_agg(value) from duckdb_settings()").rows
    assert "somebody" not in row[0]


def test_ctrl_c_ends_the_statement_and_its_process(catalog):
    words = ["--catalog", str(catalog.path), "sql", ENDLESS["one call"]]
    started = subprocess.Popen(
        [sys.executable, "-m", "cli", *words], stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    cell = _child(started.pid)
    started.send_signal(signal.SIGINT)
    assert "interrupted" in started.communicate(timeout=30)[1]
    assert started.returncode == 130
    assert not Path(f"/proc/{cell}").exists()


def _child(process):
    """The process that another has started, once it is at work."""
    listed = Path(f"/proc/{process}/task/{process}/children")
    for _ in range(600):
        for child in listed.read_text().split():
            if float(Path(f"/proc/{child}/stat").read_text().split()[13]) > 50:  # ticks of work
                return child
        time.sleep(0.05)
    raise AssertionError(process)


def test_without_a_catalog_there_is_nothing_to_ask(tmp_path):
    with pytest.raises(CatalogMissing):
        query(Catalog(tmp_path / "none.duckdb").database, "select 1")


# --- Parquet


def test_parquet_holds_the_rows_and_types_of_a_result(catalog, tmp_path):
    sql = (
        "select name, names, n_params, created_at, status = 'full' as is_full, "
        "1.25::decimal(5, 2) as price, null::double as nothing, {'a': name} as box from models order by name"
    )
    found = query(catalog.database, sql)
    found.write_parquet(tmp_path / "made.parquet")
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        read = connection.execute(f"select * from '{tmp_path / 'made.parquet'}'")
        assert tuple((str(c[0]), str(c[1])) for c in read.description) == found.columns
        rows = read.fetchall()
    assert rows == found.rows
    assert rows[0][:3] == ("base", ["base"], 5424)
    assert rows[0][3].astimezone(UTC) <= datetime.now(UTC)
    assert rows[0][4:] == (True, Decimal("1.25"), None, {"a": "base"})


def test_every_view_can_be_written_as_parquet(catalog, tmp_path):
    views = [r[0] for r in query(catalog.database, "show tables").rows]
    for view in views:
        with catalog.read() as reader:
            cursor = reader.connection.execute(f'select * from "{view}"')
            columns = tuple((str(c[0]), str(c[1])) for c in cursor.description)
            found = Result(columns, cursor.fetchall())
        found.write_parquet(tmp_path / "made.parquet")
        with duckdb.connect() as connection:
            (n,) = connection.execute(
                f"select count(*) from '{tmp_path / 'made.parquet'}'"
            ).fetchone()
        assert n == len(found.rows)


def test_a_model_of_a_hostile_name_is_only_data(catalog, tmp_path_factory, family, _empty_catalog):
    folder = tmp_path_factory.mktemp("hostile")
    own = Catalog(folder / "c.duckdb")
    own.path.write_bytes(_empty_catalog)
    name = "'; drop table store.model; --"
    save_model(folder / name, dict(family.weights["base"]))
    scan(own, [str(folder)])
    assert query(own.database, "select id, name from models").rows == [(own.find(name), name)]

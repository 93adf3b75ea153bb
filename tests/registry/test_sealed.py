"""SQL of users: it reads the catalog and can do nothing else."""

import time
from datetime import UTC, datetime
from decimal import Decimal

import duckdb
import pytest
from conftest import save_model

from registry.catalog import Catalog
from registry.errors import BadSql, CatalogMissing, SqlRefused
from registry.scan import scan
from registry.sealed import query


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


REFUSED = """
attach 'x.db' as a
attach ':memory:' as m
detach c
use memory
copy store.model to 'x.csv'
copy (select 1) to 'x.parquet'
copy store.model from '/etc/passwd'
install httpfs
load httpfs
export database 'x'
select * from read_text('/etc/passwd')
select * from read_blob('/etc/passwd')
select * from read_csv('/etc/passwd')
select * from read_json('/etc/passwd')
select * from read_parquet('/etc/passwd')
select * from sniff_csv('/etc/passwd')
select * from parquet_metadata('/etc/passwd')
select * from glob('/etc/*')
select * from "https://example.com/x.parquet"
select * from json_execute_serialized_sql(json_serialize_sql('select * from read_text(''/etc/passwd'')'))
select * from duckdb_secrets()
delete from store.model
truncate store.model
insert into store.setting values ('a', 'b')
update store.setting set value = 'x'
merge into store.setting using (select 'a' as k) on key = k when matched then delete
create table t (i int)
create temp table t (i int)
create temp view v as select 1
create temp macro f() as 1
create secret s (type s3)
alter table store.model add column x int
comment on table store.model is 'x'
drop table store.model
drop view models
set memory_limit = '100GB'
set global threads = 64
reset memory_limit
pragma memory_limit = '100GB'
pragma enable_profiling
call pragma_version()
call enable_logging()
prepare q as select 1
execute q
deallocate q
begin
commit
rollback
checkpoint
force checkpoint
vacuum
analyze
select 1; select 2
select 1; drop table store.model
explain analyze copy (select 1) to 'x.csv'
""".strip().splitlines()

BAD = """
select * from '/etc/passwd'
from '/etc/passwd'
import database 'x'
select getenv('HOME')
select load_extension('x')
select * from query('drop table store.model')
select * from force_checkpoint('c')
with x as (delete from store.model returning *) select * from x
explain delete from store.model
explain analyze delete from store.model
explain analyze create table t as select 1
select * from catalog
select * from pandas_scan(1)
select * from sqlite_scan('/etc/passwd', 'x')
select * from nosuch
selec 1
select
select cast('x' as int)
select error('boom')
'unterminated
""".strip().splitlines()


@pytest.mark.parametrize("sql", REFUSED)
def test_a_statement_that_does_more_than_read_is_refused(catalog, sql):
    with pytest.raises(SqlRefused, match=r"^refused: ") as caught:
        query(catalog.database, sql)
    assert "one SELECT" in caught.value.hint


@pytest.mark.parametrize("sql", BAD)
def test_a_statement_that_cannot_be_is_bad(catalog, sql):
    with pytest.raises(BadSql) as caught:
        query(catalog.database, sql)
    assert caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("sql", ["", "   ", ";", "-- nothing", "/* nothing */"])
def test_nothing_is_no_statement(catalog, sql):
    with pytest.raises(BadSql, match="there is no statement"):
        query(catalog.database, sql)


@pytest.mark.parametrize(
    "sql",
    [
        "select * from enable_logging('QueryLog', storage='file', storage_path='x')",
        "select * from enable_profiling(save_location='x.txt')",
        "explain analyze select * from enable_profiling(format='json', save_location='x.json')",
        "select write_log('x')",
        "select * from checkpoint()",
        "pragma database_list",
    ],
)
def test_functions_that_sound_like_writing_write_nothing(catalog, sql):
    query(catalog.database, sql)
    query(catalog.database, "select 1")


@pytest.mark.parametrize(
    ("sql", "n"),
    [
        ("select name from models", 3),
        ("select name from models;", 3),
        ("select name from models -- ; drop table store.model", 3),
        ("from models", 3),
        ("table models", 3),
        ("values (1), (2)", 2),
        ("select ';' as x", 1),
        ("with m as (select * from models) select * from m where name = 'chat'", 1),
        ("describe models", 27),
        ("describe select 1 as x", 1),
        ("show tables", 15),
        ("summarize models", 27),
        ("explain select * from models", 1),
        (
            "select comment from duckdb_columns() where table_name = 'deltas' and column_name = 'l2'",
            1,
        ),
        ("select name, dense_rank() over (order by n_bytes) from models", 3),
        ("select count(*) from tensors where layer = 1 group by module order by 1", 8),
    ],
)
def test_reading_works(catalog, sql, n):
    assert len(query(catalog.database, sql).rows) == n


def test_a_result_has_columns_types_and_records(catalog):
    found = query(catalog.database, "select name, n_params, names from models order by name")
    assert found.columns == (("name", "VARCHAR"), ("n_params", "BIGINT"), ("names", "VARCHAR[]"))
    assert next(found.records()) == {"name": "base", "n_params": 5424, "names": ["base"]}


def test_two_columns_of_one_name_are_two_columns(catalog):
    found = query(catalog.database, "select 1 as x, 2 as x")
    assert [name for name, _ in found.columns] == ["x", "x"]
    assert found.rows == [(1, 2)]


def test_a_mistyped_name_comes_with_duckdbs_own_advice(catalog):
    with pytest.raises(BadSql, match="model"):
        query(catalog.database, "select * from modles")


# --- Bounds


@pytest.mark.parametrize(
    "sql",
    [
        "select count(*) from range(10000000) a, range(10000000) b",
        "with recursive t(i) as (select 1 union all select i + 1 from t) select count(*) from t",
        "select sleep_ms(20000)",
    ],
)
def test_a_runaway_ends_by_the_clock(catalog, sql):
    started = time.monotonic()
    with pytest.raises(BadSql, match=r"longer than 0\.5 seconds") as caught:
        query(catalog.database, sql, max_seconds=0.5)
    assert time.monotonic() - started < 5
    assert "WHERE or LIMIT" in caught.value.hint


def test_a_glutton_ends_by_its_memory(catalog):
    sql = "select list(a.range) from range(100000000) a, range(100) b"
    with pytest.raises(BadSql, match="needs more than 1GB of memory"):
        query(catalog.database, sql)


def test_a_result_that_would_fill_the_memory_is_refused(catalog):
    sql = "select range as a, range as b from range({})"
    with pytest.raises(BadSql, match="more than 50,000 values") as caught:
        query(catalog.database, sql.format(30_000), max_values=50_000)
    assert "WHERE or LIMIT" in caught.value.hint
    assert len(query(catalog.database, sql.format(25_000), max_values=50_000).rows) == 25_000


def test_a_query_after_an_interrupted_one_works(catalog):
    for _ in range(2):
        with pytest.raises(BadSql):
            query(catalog.database, "select sleep_ms(20000)", max_seconds=0.1)
        assert query(catalog.database, "select 1", max_seconds=5).rows == [(1,)]


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
        found = query(catalog.database, f'select * from "{view}"')
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

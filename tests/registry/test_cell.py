"""What a sealed connection refuses, and in which words; `test_sealed` has what a process of one's own is for."""

import io
import pickle

import pytest

from registry.catalog import Catalog
from registry.cell import HEAD_BYTES, SEAL, run
from registry.errors import BadSql, SqlRefused
from registry.scan import scan


@pytest.fixture(scope="module")
def catalog(family, tmp_path_factory, _empty_catalog):
    """A catalog of three models, shared: nothing here can change it."""
    made = Catalog(tmp_path_factory.mktemp("sealed") / "c.duckdb")
    made.path.write_bytes(_empty_catalog)
    scan(made, [str(family.base), str(family.chat), str(family.math)])
    return made


@pytest.fixture
def ask(catalog, tmp_path, monkeypatch):
    """Run a statement and give its rows. Whatever is asked: the catalog's bytes stay, and no file appears."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET", "hidden")
    before = catalog.path.read_bytes()

    def asked(sql, max_values=1_000_000):
        answer = io.BytesIO()
        with catalog.database.read(SEAL) as reader:
            reader.connection.execute("set lock_configuration = true")
            run(reader.connection, sql, max_values, answer)
        answer.seek(0)
        parts = []
        while head := answer.read(HEAD_BYTES):
            parts.append(pickle.loads(answer.read(int.from_bytes(head, "big"))))  # noqa: S301 - ours
        assert parts[0][0] == "columns"
        assert parts[-1] == ("end", None)
        return [row for kind, rows in parts if kind == "rows" for row in rows]

    yield asked
    assert catalog.path.read_bytes() == before
    assert [p.name for p in catalog.path.parent.iterdir()] == ["c.duckdb"]
    assert not list(tmp_path.iterdir())


KINDS = """
ATTACH      attach 'x.db' as a
ATTACH      attach ':memory:' as m
ATTACH      attach '/etc/passwd' (type sqlite)
DETACH      detach c
SET         use memory
COPY        copy store.model to 'x.csv'
COPY        copy (select 1) to 'x.parquet'
COPY        copy (select 1) to '/dev/stdout' (format csv)
COPY        copy store.model from '/etc/passwd'
LOAD        install httpfs
LOAD        load httpfs
LOAD        force install httpfs from community
LOAD        load '/tmp/x.duckdb_extension'
this        update extensions
EXPORT      export database 'x'
DELETE      delete from store.model
DELETE      truncate store.model
INSERT      insert into store.setting values ('a', 'b')
UPDATE      update store.setting set value = 'x'
MERGE_INTO  merge into store.setting using (select 'a' as k) on key = k when matched then delete
CREATE      create table t (i int)
CREATE      create temp table t (i int)
CREATE      create temp view v as select 1
CREATE      create temp macro f() as 1
CREATE      create sequence s
CREATE      create type t as enum ('a')
CREATE      create schema s
CREATE      create secret s (type s3)
CREATE      create persistent secret s (type http)
DROP        drop secret s
ALTER       alter table store.model add column x int
ALTER       comment on table store.model is 'x'
DROP        drop table store.model
DROP        drop view models
SET         set memory_limit = '100GB'
SET         set global threads = 64
SET         set enable_external_access = true
SET         set temp_directory = '/tmp'
SET         set log_query_path = 'x'
SET         set variable x = 1
SET         reset memory_limit
SET         pragma memory_limit = '100GB'
PRAGMA      pragma enable_profiling
PRAGMA      pragma force_checkpoint
CALL        call pragma_version()
CALL        call enable_logging()
CALL        call force_checkpoint()
PREPARE     prepare q as select 1
PREPARE     prepare q as copy (select 1) to 'x.csv'
EXECUTE     execute q
DROP        deallocate q
TRANSACTION begin
TRANSACTION commit
TRANSACTION rollback
VACUUM      vacuum
VACUUM      analyze
""".strip().splitlines()


@pytest.mark.parametrize("line", KINDS, ids=lambda line: line.split(maxsplit=1)[1])
def test_a_statement_of_another_kind_is_refused_by_its_kind(ask, line):
    kind, sql = line.split(maxsplit=1)
    with pytest.raises(SqlRefused, match=f"^refused: {kind} is not a reading statement$") as caught:
        ask(sql)
    assert "one SELECT" in caught.value.hint


@pytest.mark.parametrize(
    ("n", "sql"),
    [
        (2, "select 1; select 2"),
        (2, "select 1; drop table store.model"),
        (2, "select 1;/**/;copy (select 1) to 'x.csv'"),
        (4, "copy from database c to memory"),
    ],
)
def test_several_statements_are_refused(ask, n, sql):
    with pytest.raises(SqlRefused, match=f"^refused: {n} statements in one query$"):
        ask(sql)


FILES = """
select * from read_text('/etc/passwd')
select * from read_blob('/etc/passwd')
select * from read_csv('/etc/passwd')
select * from read_csv_auto('/dev/stdin')
select * from read_json('/etc/passwd')
select * from read_json_auto('/etc/passwd')
select * from read_json_objects('/etc/passwd')
select * from read_ndjson('/etc/passwd')
select * from read_ndjson_objects('/etc/passwd')
select * from read_parquet('/etc/passwd')
select * from parquet_scan(['/etc/passwd'])
select * from sniff_csv('/etc/passwd')
select * from parquet_metadata('/etc/passwd')
select * from parquet_schema('/etc/passwd')
select * from parquet_file_metadata('/etc/passwd')
select * from parquet_full_metadata('/etc/passwd')
select * from parquet_kv_metadata('/etc/passwd')
select * from parquet_bloom_probe('/etc/passwd', 'a', 1)
select * from read_duckdb('/etc/passwd')
select * from read_text('https://example.com/x')
select * from read_text('s3://bucket/x')
select * from read_text(['/etc/passwd', '/etc/group'])
select * from read_text('/proc/self/environ')
select * from read_csv('/etc/*')
select * from glob('/etc/*')
select * from glob('**')
select * from "https://example.com/x.parquet"
from 'x.csv'
from "x.csv"
from 'x.parquet'
from 'x.json'
from '/etc/x.csv'
from '../x.csv'
from 'x.csv.gz'
select * from query('from read_text(''/etc/passwd'')')
select * from json_execute_serialized_sql(json_serialize_sql('select * from read_text(''/etc/passwd'')'))
select * from (select 1) where exists (from read_text('/etc/passwd'))
with t as materialized (from read_text('/etc/passwd')) select 1 from t
explain select * from read_text('/etc/passwd')
explain analyze select * from read_text('/etc/passwd')
describe select * from read_text('/etc/passwd')
summarize from read_text('/etc/passwd')
select * from duckdb_secrets()
select * from which_secret('s3://x', 's3')
select * from duckdb_extensions()
""".strip().splitlines()


@pytest.mark.parametrize("sql", FILES)
def test_no_function_and_no_name_reaches_a_file(ask, sql):
    with pytest.raises(
        SqlRefused, match=r"^refused: .*(disabled by configuration|is disabled through)"
    ):
        ask(sql)


NAMELESS = """
from '/etc/passwd'                            does not exist
from 'file:///etc/passwd'                     does not exist
from query_table('/etc/passwd')               does not exist
from query_table(['models', 'x.csv'])         (does not exist|disabled)
from catalog                                  does not exist
from df                                       does not exist
from ask                                      does not exist
select getenv('SECRET')                       does not exist
select load_extension('x')                    does not exist
select set_config('memory_limit', '10GB')     does not exist
select file_exists('/etc/passwd')             does not exist
select 1::pointer                             does not exist
from sqlite_scan('/etc/passwd', 'x')          is not in the catalog
from pandas_scan(140737488355328)             No function matches
from arrow_scan(1, 2, 3)                      No function matches
from arrow_scan_dumb(1, 2, 3)                 No function matches
from python_map_function(1)                   No function matches
from query('drop table store.model')          single SELECT
from query('select 1; select 2')              single SELECT
from query('pragma database_list')            single SELECT
from force_checkpoint('c')                    .
from force_checkpoint()                       Cannot FORCE CHECKPOINT
import database 'x'                           disabled by configuration
pragma import_database('x')                   disabled by configuration
explain analyze copy (select 1) to 'x.csv'    .
explain analyze create table t as select 1    .
explain delete from store.model               .
explain analyze delete from store.model       .
with x as (delete from store.model returning *) select * from x    .
select 1 into x                               SELECT INTO not supported
select error('boom')                          boom
select cast('x' as int)                       Could not convert
select chr(55296)                             Invalid UTF8
select list_resize([1], 100000000000, 2)      Cannot resize
select repeat('x', 1000000000000)             Cannot create a string of size
select len(range(10000000000))                larger than 2
select * from modles                          models
selec 1                                       syntax error
select                                        SELECT clause without selection list
'unterminated                                 unterminated
select 'a                                     unterminated
""".strip().splitlines()


@pytest.mark.parametrize("line", NAMELESS)
def test_what_cannot_be_is_bad_in_duckdb_s_words(ask, line):
    sql, message = line.split("    ", 1)
    with pytest.raises((BadSql, SqlRefused), match=message.strip()) as caught:
        ask(sql.strip())
    assert caught.value.hint


@pytest.mark.parametrize("sql", ["", "   ", ";", "-- nothing", "/* nothing */"])
def test_nothing_is_no_statement(ask, sql):
    with pytest.raises(BadSql, match="there is no statement"):
        ask(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "from enable_logging('QueryLog', storage='file', storage_path='x')",
        "from enable_logging(storage='file', storage_config={'path': 'x'})",
        "from enable_profiling(save_location='x.txt')",
        "explain analyze from enable_profiling(format='json', save_location='x.json')",
        "select write_log('x')",
        "from truncate_duckdb_logs()",
        "from checkpoint()",
        "pragma database_list",
        "pragma storage_info('store.model')",
    ],
)
def test_functions_that_sound_like_writing_write_nothing(ask, sql):
    ask(sql)
    ask("select 1")


@pytest.mark.parametrize(
    ("sql", "n"),
    [
        ("select name from models", 3),
        ("select name from models;", 3),
        ("select name from models -- ; drop table store.model", 3),
        ("from models", 3),
        ("table models", 3),
        ("from query('from models')", 3),
        ("from query_table('models')", 3),
        ("values (1), (2)", 2),
        ("select ';' as x", 1),
        ("with m as (select * from models) select * from m where name = 'chat'", 1),
        ("describe models", 28),
        ("describe select 1 as x", 1),
        ("show tables", 17),
        ("summarize models", 28),
        ("explain select * from models", 1),
        (
            "select comment from duckdb_columns() where table_name = 'deltas' and column_name = 'l2'",
            1,
        ),
        ("select name, dense_rank() over (order by n_bytes) from models", 3),
        ("select count(*) from tensors where layer = 1 group by module order by 1", 8),
        ('select 1 as "名\u202e\x1b[31m"', 1),
        ("select '\x1b]0;x\x07' as x", 1),
    ],
)
def test_reading_works(ask, sql, n):
    assert len(ask(sql)) == n


def test_nothing_tells_of_the_machine_but_the_catalog_s_place(ask, catalog):
    assert ask("select path from duckdb_databases() where path is not null") == [
        (str(catalog.path),)
    ]
    assert ask("from duckdb_logs") == ask("from duckdb_temporary_files()") == []
    assert ask("select getvariable('SECRET')") == [(None,)]
    (row,) = ask("select json_serialize_plan('from read_text(''/etc/passwd'')')")
    assert "disabled by configuration" in row[0]


def test_a_glutton_ends_by_its_memory(ask):
    with pytest.raises(BadSql, match="needs more than 1GB of memory") as caught:
        ask("select len(list(repeat('x', 10000))) from range(1000000)")
    assert "WHERE or LIMIT" in caught.value.hint


def test_a_result_of_too_many_values_or_bytes_is_refused(ask, monkeypatch):
    sql = "select range as a, range as b from range({})"
    with pytest.raises(BadSql, match="more than 50,000 values") as caught:
        ask(sql.format(30_000), 50_000)
    assert "WHERE or LIMIT" in caught.value.hint
    assert len(ask(sql.format(25_000), 50_000)) == 25_000
    monkeypatch.setattr("registry.cell.MAX_BYTES", 1_000_000)
    with pytest.raises(BadSql, match="more than 1,000,000 bytes"):
        ask("select repeat('x', 10000) from range(1000)")

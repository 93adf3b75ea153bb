"""`reg sql`."""

import csv

import pytest


def test_sql_gives_programs_rows(known):
    assert known.json("sql", "select name, n_tensors from models where name = 'chat'") == [
        {"name": "chat", "n_tensors": 19}
    ]


def test_every_kind_of_value_is_valid_json(known):
    sql = (
        "select 'nan'::double as nan, 'inf'::float as inf, 1.50::decimal(9,2) as d, date '2026-01-02' as day, "
        "[1, null] as list, {'a': 1} as struct, map {1: 'x'} as map, 'a'::blob as bytes, uuid() as id, "
        "interval 90 second as span, 170141183460469231731687303715884105727::hugeint as huge, null as nothing"
    )
    (row,) = known.json("sql", sql)
    assert row["nan"] is row["inf"] is row["nothing"] is None
    assert row["d"] == 1.5
    assert row["day"] == "2026-01-02"
    assert row["list"] == [1, None]
    assert row["struct"] == {"a": 1}
    assert row["map"] == {"1": "x"}
    assert row["span"] == 90
    assert row["huge"] == 2**127 - 1


def test_columns_of_one_name_do_not_hide_each_other(known):
    assert known.json("sql", "select 1 as a, 2 as a, 3 as a_1, 4 as a") == [
        {"a": 1, "a_2": 2, "a_1": 3, "a_3": 4}
    ]


def test_sql_from_stdin(known):
    assert known.run("sql", "-", "-q", stdin="select 7 as x").stdout == "7\n"


def test_csv_is_whole(known):
    out = known.run("sql", "select name, n_params from models order by name", "--csv").stdout
    header, *rows = csv.reader(out.splitlines())
    assert header == ["name", "n_params"]
    assert [row[0] for row in rows] == ["base", "chat", "math", "merged"]


def test_parquet_holds_the_rows(known, tmp_path):
    file = tmp_path / "x.parquet"
    said = known.json(
        "sql", "select 1 as a, 'x' as a, [1.5] as b from models", "--parquet", str(file)
    )
    assert said == {"file": str(file), "n_rows": 4}
    assert file.read_bytes()[:4] == file.read_bytes()[-4:] == b"PAR1"
    said = known.run("sql", "from models", "--parquet", str(file))
    assert not said.stdout
    assert "4 rows written" in said.stderr


def test_no_rows_is_no_error(known):
    assert known.json("sql", "from models where false") == []
    assert known.run("sql", "from models where false").stdout == "no rows\n"


@pytest.mark.parametrize(
    ("sql", "error"),
    [("drop view models", "SqlRefused"), ("selec 1", "BadSql"), ("select 1; select 2", "SqlRefused"),
     ("from read_text('/etc/passwd')", "SqlRefused"), ("from nowhere", "BadSql"), ("", "BadSql")],
)  # fmt: skip
def test_sql_only_reads_the_catalog(known, sql, error):
    assert f'"error": "{error}"' in known.run("sql", sql, "--json", code=1).stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--csv", "--parquet", "x.parquet"),
        ("--parquet", "nowhere/x.parquet"),
        ("--parquet", "models"),
    ],
)
def test_outputs_that_cannot_be_are_wrong_usage(known, words):
    known.run("sql", "from models", *words, code=2)


def test_a_parquet_file_replaces_neither_weights_nor_the_catalog(known):
    for place in (".reg/catalog.duckdb", "models/base/model.safetensors"):
        before = (known.folder / place).read_bytes()
        said = known.run("sql", "select 1", "--parquet", place, code=1).stderr
        assert "is no Parquet file; it is not replaced" in said
        assert (known.folder / place).read_bytes() == before


@pytest.mark.parametrize("voice", [(), ("-q",), ("--json",)])
def test_no_voice_prints_what_a_terminal_obeys(known, voice):
    sql = "select '\x1b]0;x\x07\u202e' as \"\x1b[31mred\", 'a\r\nb' as b"
    said = known.run("sql", sql, *voice)
    assert not {"\x1b", "\x07", "\u202e", "\r"} & set(said.stdout + said.stderr)


def test_the_message_of_a_bad_statement_is_printable(known):
    said = known.run("sql", 'select * from "\x1b[31mnowhere\x07"', code=1).stderr
    assert "nowhere" in said
    assert not {"\x1b", "\x07"} & set(said)

"""Parquet files hold values and types as the query gave them."""

import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from registry.errors import OutputExists, RunFailed
from registry.parquet import write_parquet

VALUES = """
    select 1::utinyint a, 170141183460469231731687303715884105727::hugeint b, 1.5::decimal(10, 3) c,
    'x''y"z' d, [1, null, 3] e, ['it''s', 'a"b', null, '', 'None', 'null'] f,
    {'k': 'v', 'n': null, 'l': [1.5, 'inf'::double]} g, map(['a', 'b'], [1, null]) h,
    '\\x00\\xFF'::blob i, timestamp '2020-01-02 03:04:05.678901' j,
    timestamptz '2020-01-02 03:04:05+00' k, date '2020-01-01' l, interval '26 hours' m,
    '00000000-0000-0000-0000-000000000001'::uuid n, true o, 1.1::float p, 'inf'::double q,
    time '01:02:03' r, [date '2020-01-01', null] s, [{'a': 1}, {'a': null}] t, 'b'::enum('a', 'b') u
    """


def test_parquet_gives_back_values_and_types(tmp_path):
    with duckdb.connect() as connection:
        cursor = connection.execute(VALUES)
        columns = [(str(c[0]), str(c[1])) for c in cursor.description]
        row = cursor.fetchone()
        nothing = tuple(None for _ in row)
        write_parquet(tmp_path / "x.parquet", columns, [row, nothing])
        read = connection.execute(f"select * from '{tmp_path / 'x.parquet'}'")
        types = {str(c[0]): str(c[1]) for c in read.description}
        assert read.fetchall() == [
            tuple(float(v) if c == "b" else v for v, c in _named(row, columns)),
            nothing,
        ]
    changed = {"b": "DOUBLE", "u": "ENUM('a', 'b')"}
    assert types == dict(columns) | {"b": changed["b"]} | {"u": types["u"]}
    assert row[2] == Decimal("1.5")
    assert row[10] == datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert row[12] == timedelta(hours=26)


def _named(row, columns):
    return zip(row, (name for name, _ in columns), strict=True)


def test_parquet_of_no_rows_keeps_the_columns(tmp_path):
    write_parquet(tmp_path / "x.parquet", [('odd "name"', "BIGINT"), ("t", "VARCHAR")], [])
    with duckdb.connect() as connection:
        read = connection.execute(f"select * from '{tmp_path / 'x.parquet'}'")
        assert [str(c[0]) for c in read.description] == ['odd "name"', "t"]
        assert read.fetchall() == []


def test_parquet_into_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RunFailed, match=r"no/x\.parquet cannot be written") as caught:
        write_parquet(tmp_path / "no" / "x.parquet", [("a", "BIGINT")], [(1,)])
    assert "/.x.parquet" not in caught.value.message  # which is gone by now


_ONE = ([("a", "BIGINT")], [(1,)])


def test_an_earlier_parquet_file_and_an_empty_one_are_replaced(tmp_path):
    file = tmp_path / "x.parquet"
    file.touch()
    for value in (1, 2):
        write_parquet(file, [("a", "BIGINT")], [(value,)])
        with duckdb.connect() as connection:
            assert connection.execute(f"select a from '{file}'").fetchall() == [(value,)]
    assert [p.name for p in tmp_path.iterdir()] == ["x.parquet"]


def test_what_is_no_parquet_is_not_replaced(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"weights")
    (tmp_path / "link.parquet").symlink_to(weights)
    os.mkfifo(tmp_path / "pipe")
    for name in ("model.safetensors", "link.parquet", "pipe", "."):
        with pytest.raises(OutputExists, match="is no Parquet file; it is not replaced"):
            write_parquet(tmp_path / name, *_ONE)
    assert weights.read_bytes() == b"weights"
    with pytest.raises(OutputExists, match="/dev/null"):
        write_parquet(Path("/dev/null"), *_ONE)


def test_a_file_that_fails_leaves_the_earlier_one(tmp_path):
    file = tmp_path / "x.parquet"
    write_parquet(file, *_ONE)
    before = file.read_bytes()
    with pytest.raises(RunFailed, match=r"x\.parquet cannot be written"):
        write_parquet(file, [("a", "BIGINT"), ("A", "BIGINT")], [(1, 2)])
    assert file.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.parquet"]


def test_a_type_cannot_smuggle_a_statement(tmp_path):
    other = tmp_path / "other.csv"
    for kind in (f"int); copy (select 1) to '{other}'; --", f"int); attach '{other}' as o; --"):
        with pytest.raises(RunFailed, match="cannot be written"):
            write_parquet(tmp_path / "x.parquet", [("a", kind)], [])
    assert not list(tmp_path.iterdir())

"""Columns on their way into the database: what goes in comes out."""

from datetime import UTC, datetime, timedelta

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.column import as_array, unicode

TEXT = st.text(st.characters(exclude_categories=("Cs",)))
PLAIN = st.none() | st.integers(-(2**31), 2**31 - 1)
VALUES = {
    "BIGINT": st.integers(-(2**63), 2**63 - 1),
    "INTEGER": st.integers(-(2**31), 2**31 - 1),
    "SMALLINT": st.integers(-(2**15), 2**15 - 1),
    "HUGEINT": st.integers(-(2**127) + 1, 2**127 - 1),
    "DOUBLE": st.floats(allow_nan=False),
    "VARCHAR": TEXT,
    "BOOLEAN": st.booleans(),
    "BLOB": st.binary(),
    "TIMESTAMP": st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31)),
    "TIMESTAMP WITH TIME ZONE": st.datetimes(
        datetime(1970, 1, 1), datetime(9999, 12, 30), timezones=st.just(UTC)
    ),
    "DATE": st.dates(),
    "INTERVAL": st.timedeltas(timedelta(-10_000), timedelta(10_000)),
    "UUID": st.uuids(),
    "VARCHAR[]": st.lists(st.none() | TEXT, max_size=3),
    "INTEGER[][]": st.lists(st.lists(PLAIN, max_size=2), max_size=2),
    "STRUCT(a INTEGER, b VARCHAR)": st.fixed_dictionaries({"a": PLAIN, "b": st.none() | TEXT}),
    "MAP(VARCHAR, INTEGER)": st.dictionaries(TEXT, PLAIN, max_size=3),
}


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect() as connection:
        connection.execute("set pandas_analyze_sample = 0")
        connection.execute("set timezone = 'UTC'")
        yield connection


@pytest.mark.parametrize("kind", VALUES)
def test_values_come_out_as_they_went_in(connection, kind):
    @settings(max_examples=15)
    @given(st.lists(VALUES[kind], min_size=1, max_size=5))
    def law(values):
        array, sql = as_array(kind, values, "v")
        connection.register("incoming", {"v": array})
        rows = connection.execute(f"select {sql} from incoming").fetchall()
        assert [row[0] for row in rows] == values

    law()


@pytest.mark.parametrize("kind", ["BIGINT", "DOUBLE", "VARCHAR"])
def test_none_leaves_room_for_a_null(kind):
    array, _ = as_array(kind, [None, None], "v")
    assert len(array) == 2


@given(st.text())
def test_every_text_becomes_unicode_and_unicode_stays_as_it_is(text):
    assert unicode(text).encode().decode() == unicode(text)
    assert unicode(unicode(text)) == unicode(text)
    if not any("\ud800" <= c <= "\udfff" for c in text):
        assert unicode(text) == text

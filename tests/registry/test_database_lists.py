"""Rows that hold lists of numbers go in as they are."""

import numpy as np
import pytest

LISTS = {
    "bins": [np.array([-7, 3, 5]), np.array([2])],
    "counts": [np.array([1, 1 << 40, 2]), np.array([9])],
    "sums_abs": [np.array([0.1, 1 / 3, 5e-324]), np.array([7.0])],
    "sums_sq": [np.array([1e300, 2.5, 1e-300]), np.array([0.3])],
}
KEYS = {"child": ["c", "c"], "base": ["b", "b"], "tensor": ["wé", "a"]}


def stored(database):
    rows = database.rows("select * from store.histogram order by tensor desc")
    return {name: [row[name] for row in rows] for name in [*KEYS, *LISTS]}


def as_lists(columns):
    return {name: [column.tolist() for column in values] for name, values in columns.items()}


@pytest.mark.parametrize("times", [1, 2])
def test_lists_come_out_as_they_went_in_however_often(catalog, times):
    for _ in range(times):
        with catalog.write() as transaction:
            assert transaction.insert_lists("histogram", KEYS, LISTS) == 2
    assert stored(catalog) == KEYS | as_lists(LISTS)


def test_a_row_whose_key_is_there_is_replaced(catalog):
    with catalog.write() as transaction:
        transaction.insert_lists("histogram", KEYS, LISTS)
        other = {name: values[::-1] for name, values in LISTS.items()}
        transaction.insert_lists("histogram", KEYS, other)
    assert stored(catalog) == KEYS | as_lists(other)


def test_lists_keep_their_order_however_long_they_are(catalog):
    n = 300_000
    longs = {name: [np.arange(n)[::-1], np.arange(n)] for name in LISTS}
    with catalog.write() as transaction:
        transaction.insert_lists("histogram", KEYS, longs)
    assert stored(catalog) == KEYS | as_lists(longs)


def test_no_lists_are_inserted_without_a_statement(catalog):
    with catalog.write() as transaction:
        none = {name: [] for name in LISTS}
        assert transaction.insert_lists("histogram", {key: [] for key in KEYS}, none) == 0
    assert stored(catalog)["child"] == []

"""Piles: patches of one shape are taken out of models and put on top of each other."""

import numpy as np
import pytest

from engine.descent.patch import Patch
from engine.descent.pile import piled


def patch(rows, columns, name="w"):
    """A patch of a tensor four times as large."""
    return Patch(name, (2 * rows, 2 * columns), 0, rows, 0, columns, is_vector=False)


VALUES = np.arange(100, dtype=np.float32)


def test_patches_of_one_shape_are_one_pile_in_order():
    first, second = piled([(patch(2, 3), 10), (patch(4, 1), 0), (patch(2, 3), 20)])
    assert first.places.tolist() == [0, 2]
    assert second.places.tolist() == [1]
    assert first.of(VALUES).tolist() == [[[10, 11, 12], [13, 14, 15]], [[20, 21, 22], [23, 24, 25]]]
    assert second.of(VALUES).tolist() == [[[0], [1], [2], [3]]]
    assert first.shares.tolist() == [4, 4]


def test_of_several_models_each_has_its_own():
    (pile,) = piled([(patch(2, 2), 4)])
    both = pile.of(np.stack([VALUES, -VALUES]))
    assert both.shape == (2, 1, 2, 2)
    assert both[1].tolist() == [[[-4, -5], [-6, -7]]]


@pytest.mark.parametrize(("rows", "columns"), [(2, 5), (5, 2), (3, 3)])
def test_the_shorter_side_is_taken_for_rows(rows, columns):
    (pile,) = piled([(patch(rows, columns), 0)])
    wide = pile.wide(VALUES)
    assert wide.shape == (1, min(rows, columns), max(rows, columns))
    assert pile.least == min(rows, columns)
    assert sorted(wide.reshape(-1)) == list(range(rows * columns))


def test_a_pile_can_be_thinned_and_split():
    (pile,) = piled([(patch(2, 3), 6 * i) for i in range(5)])
    some = pile.some(np.array([True, False, False, True, False]))
    assert some.places.tolist() == [0, 3]
    assert some.index[1, 0, 0] == 18
    parts = list(pile.split(13))  # two patches have twelve entries
    assert [part.places.tolist() for part in parts] == [[0, 1], [2, 3], [4]]
    assert [part.places.tolist() for part in pile.split(1)] == [[0], [1], [2], [3], [4]]


def test_no_patches_are_no_piles():
    assert piled([]) == ()

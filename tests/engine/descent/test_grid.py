"""Grids: what lies on few levels is told from what does not, of one model alone."""

import numpy as np
import pytest
from descent_patches import drawn, sketch_of

from engine.descent.bucket import gather
from engine.descent.grid import many_levels, owners, regularity


def of(*matrices):
    """A bucket of models of one matrix."""
    return gather([sketch_of({"w": w.astype(np.float32)}, f"m{i}") for i, w in enumerate(matrices)])


FREE = drawn(1, 12, 64)
STEPS = np.round(FREE * 30) / 30


def test_groups_of_four_bits_have_few_levels():
    half = FREE.copy()
    half[:6] = np.round(FREE[:6] * 2) / 2
    found = many_levels(of(FREE, half), 1)
    assert found.shape == (24,)
    assert not found[:12].any()
    assert found[12:].all()
    assert many_levels(of(FREE, half), 0).all()


def test_the_owners_of_groups_are_the_matrices_they_are_of():
    parts = {"a": drawn(1, 2, 64), "b": drawn(2, 3, 32), "c": drawn(3, 2, 64)}
    bucket = gather([sketch_of(parts, "m")])
    assert sorted(owners(bucket).tolist()) == [0] * 4 + [1] * 3 + [2] * 4
    assert len(many_levels(bucket, 0)) == len(owners(bucket))


def test_rows_narrower_than_a_group_have_no_groups():
    found = many_levels(of(FREE[:, :31]), 0)
    assert found.shape == (0,)


def test_rows_of_whole_multiples_are_regular_and_others_are_not():
    bucket = of(FREE, STEPS)
    assert regularity(bucket, 1, (0,)) > 0.95
    assert regularity(bucket, 0, (0,)) < 0.6
    assert regularity(bucket, 1, (0,)) == regularity(bucket, 1, (0,))


def test_the_mean_is_over_as_many_rows_as_are_asked_for():
    mixed = FREE.copy()
    mixed[0] = STEPS[0]
    bucket = of(mixed)
    assert regularity(bucket, 0, (0,), 1) > 0.95 > regularity(bucket, 0, (0,), 2)


@pytest.mark.parametrize(
    "matrix", [np.zeros((4, 64)), np.full((4, 64), 3.0), FREE[:, :31]], ids=["0", "3", "narrow"]
)
def test_rows_that_tell_nothing_count_for_nothing(matrix):
    assert regularity(of(matrix), 0, (0,)) == 0
    assert regularity(of(FREE), 0, ()) == 0

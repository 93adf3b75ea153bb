"""Errors of edits."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.edits import EditError, edit_error
from engine.methods.expo import expo

D1 = torch.tensor([[1.0, -2, 3, -4], [5, 6, -7, 8]])


def test_one_magnitude_for_all_has_the_error_that_its_mean_tells():
    found = edit_error(D1, 4.5 * D1.sign())
    assert found.relative == pytest.approx(0.453743, abs=1e-6)
    assert found.relative == pytest.approx(math.sqrt(1 - 4.5**2 * 8 / 204))
    assert (found.n_params, found.sum_sq, found.max_error) == (8, 204.0, 3.5)


def test_extrapolation_is_wrong_by_alpha():
    assert edit_error(D1, expo([D1], alpha=0.5)).relative == pytest.approx(0.5)


def test_no_edit_has_no_error_and_nothing_has_no_relative_one():
    assert edit_error(D1, D1).relative == 0
    assert edit_error(torch.zeros(3), torch.ones(3)) == EditError(3, 0.0, 3.0, 1.0)
    assert edit_error(torch.zeros(3), torch.ones(3)).relative is None
    assert edit_error(torch.zeros(0), torch.zeros(0)) == EditError()


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=30), st.data())
def test_slices_add_up(values, data):
    delta = torch.tensor(values, dtype=torch.float32)
    edited = delta.div(3).round()
    cut = data.draw(st.integers(0, len(values)))
    parts = edit_error(delta[:cut], edited[:cut]) + edit_error(delta[cut:], edited[cut:])
    assert parts == edit_error(delta, edited)


def test_the_error_does_not_depend_on_the_number_of_threads():
    x = torch.randn(300_001, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(edit_error(x, x.bfloat16().float()))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]
    assert found[0].relative == pytest.approx(0.0017, rel=0.1)

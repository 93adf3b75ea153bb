"""Errors of edits and the classes of the unified view."""

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.edits import EditError, edit_error, unified_view
from engine.methods.expo import expo


@dataclass(frozen=True)
class Measured:
    value: float
    stderr: float | None = 0.01


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


@pytest.mark.parametrize(
    ("after", "found"), [(0.52, "competitive"), (0.48, "competitive"), (0.55, "improved"), (0.4, "decreased")]
)  # fmt: skip
def test_differences_count_beyond_two_standard_errors(after, found):
    assert unified_view(Measured(0.5), Measured(after)) == found


def test_less_is_better_for_a_loss():
    assert unified_view(Measured(2.0), Measured(1.0), more_is_better=False) == "improved"
    assert unified_view(Measured(2.0), Measured(3.0), more_is_better=False) == "decreased"


def test_without_standard_errors_nothing_is_said():
    assert unified_view(Measured(0.5, None), Measured(0.9)) is None
    assert unified_view(Measured(0.5), Measured(0.9, None)) is None


def test_exact_scores_differ_or_do_not():
    assert unified_view(Measured(0.5, 0.0), Measured(0.5, 0.0)) == "competitive"
    assert unified_view(Measured(0.5, 0.0), Measured(0.51, 0.0)) == "improved"


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.2), st.floats(0, 0.2))
def test_exchanging_the_models_exchanges_the_classes(a, b, stderr, other):
    there = unified_view(Measured(a, stderr), Measured(b, other))
    back = unified_view(Measured(b, other), Measured(a, stderr))
    turned = {"improved": "decreased", "decreased": "improved", "competitive": "competitive"}
    assert back == turned[there]

"""Changes add up, and are those of the rounded result."""

import pytest
import torch

from engine.change import Change, compared


def test_a_change_is_measured_after_rounding():
    reference = torch.tensor([1.0, 2.0, 0.0, -4.0])
    result = reference + torch.tensor([1e-4, 1.0, 0.0, 0.0])
    found = compared(reference, result, result.bfloat16())
    assert (found.n, found.n_changed, found.n_lost) == (4, 1, 1)
    assert (found.sum_sq, found.base_sum_sq, found.max_abs) == (1.0, 21.0, 1.0)
    assert found.relative_l2 == pytest.approx((1 / 21) ** 0.5)


def test_changes_add_up_and_nothing_changes_nothing():
    one = Change(2, 1, 0, 1.0, 4.0, 1.0)
    assert one + Change() == one
    assert (one + one).n_changed == 2
    assert Change().relative_l2 == 0
    same = torch.ones(3)
    assert compared(same, same, same).n_changed == 0
    empty = torch.zeros(0)
    assert compared(empty, empty, empty) == Change()

"""DARE with TIES, by hand: at density 1 nothing is drawn, below it the mask is known."""

import pytest
import torch

from engine.draws import Draws
from engine.methods.dare_ties import dare_ties
from engine.methods.ties import ties

D1 = torch.tensor([[1.0, -2, 3, -4], [5, 6, -7, 8]])
D2 = torch.tensor([[2.0, 1, -6, -1], [-3, 4, 7, 5]])
DRAWS = Draws(0, "w", ("a", "b", "c"))


def merge(models, **parameters):
    return dare_ties(models, draws=DRAWS, **parameters)


def test_density_one_averages_the_entries_of_the_elected_sign():
    expected = torch.tensor([[1.5, -2, -6, -2.5], [5, 5, 7, 6.5]])
    assert torch.equal(merge([D1, D2], density=1.0), expected)


@pytest.mark.parametrize("tie", ["positive", "drop"])
@pytest.mark.parametrize("sign", ["sum", "count"])
def test_density_one_is_ties_without_trimming(tie, sign):
    drawn = merge([D1, D2], density=1.0, weight=[0.3, 0.7], tie=tie, sign=sign)
    whole = ties([D1, D2], density=1.0, weight=[0.3, 0.7], tie=tie, sign=sign)
    assert torch.equal(drawn, whole)


def test_unequal_weights_as_mergekit_merges_them():
    merged = merge([D1, D2], density=1.0, weight=[0.3, 0.7])
    expected = torch.tensor([[1.7, 1, -6, -1.9], [-3, 4.6, 7, 5.9]])
    torch.testing.assert_close(merged, expected)


@pytest.mark.parametrize(("tie", "settled"), [("positive", 7.0), ("drop", 0.0)])
def test_entries_that_cancel_follow_the_rule_for_ties(tie, settled):
    assert merge([D1, D2], density=1.0, tie=tie)[1, 2] == settled


def test_dropped_entries_do_not_vote_and_are_not_counted():
    masks = [(DRAWS.uniform(i, D1.shape) < 0.5).float() for i in range(2)]
    merged = merge([D1.abs(), 3 * D1.abs()])
    total = 2 * D1.abs() * masks[0] + 6 * D1.abs() * masks[1]
    assert torch.equal(merged, total / (masks[0] + masks[1]).clamp(min=1))
    assert any(0 < mask.sum() < 8 for mask in masks)


def test_disjoint_sum_without_normalizing():
    merged = merge([D1, D2], density=1.0, normalize=False)
    assert torch.equal(merged, torch.tensor([[3.0, -2, -6, -5], [5, 10, 7, 13]]))


def test_one_model_at_density_one_is_given_back():
    assert torch.equal(merge([D1], density=1.0), D1)


def test_copies_of_a_model_at_density_one_are_that_model():
    assert torch.equal(merge([D1] * 3, density=1.0), D1)


def test_lambda_scales_the_result():
    assert torch.equal(merge([D1, D2], lambda_=2.0), 2 * merge([D1, D2]))
    assert torch.equal(merge([D1, D2], lambda_=0.0), torch.zeros(2, 4))


def test_blocks_draw_on_where_the_last_one_ended():
    long = torch.ones(300_000)
    merged = dare_ties([long], draws=DRAWS.at(5))
    assert torch.equal(merged, 2 * (DRAWS.at(5).uniform(0, long.shape) < 0.5).float())


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 3)])
def test_odd_shapes_keep_their_shape(shape):
    merged = merge([torch.ones(shape), torch.full(shape, 3.0)], density=1.0)
    assert torch.equal(merged, torch.full(shape, 2.0))

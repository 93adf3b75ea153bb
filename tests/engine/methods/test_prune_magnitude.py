"""Magnitude pruning, by hand."""

import pytest
import torch

from engine.methods.prune_magnitude import prune_magnitude

D1 = torch.tensor([[1.0, -2, 3, -4], [5, 6, -7, 8]])
X = torch.tensor([0.1, -0.2, 0.3, -0.4, 0.5, -0.6, 0.7, -0.8])


def test_the_largest_half_stays_as_it_is():
    assert torch.equal(
        prune_magnitude([X]), torch.tensor([0.0, 0.0, 0.0, 0.0, 0.5, -0.6, 0.7, -0.8])
    )


def test_each_row_can_keep_its_own_largest():
    assert torch.equal(
        prune_magnitude([D1], per="row"), torch.tensor([[0.0, 0, 3, -4], [0, 0, -7, 8]])
    )


def test_what_stays_can_be_rescaled():
    assert torch.equal(prune_magnitude([X], rescale=True), 2 * prune_magnitude([X]))


def test_exactly_as_many_stay_as_were_asked_for_and_of_equal_ones_the_first():
    equal = torch.tensor([1.0, -1, 1, 2])
    assert torch.equal(prune_magnitude([equal], density=0.75), torch.tensor([1.0, -1, 0, 2]))
    assert torch.equal(
        prune_magnitude([equal[None].repeat(2, 1)], density=0.75, per="row"),
        torch.tensor([[1.0, -1, 0, 2]] * 2),
    )


def test_the_count_is_rounded_down_where_the_authors_round_the_dropped_ones_down():
    n = int((prune_magnitude([torch.arange(1.0, 8.0)], density=0.5) != 0).sum())
    assert (n, 7 - int(0.5 * 7)) == (3, 4)


@pytest.mark.parametrize("per", ["tensor", "row"])
def test_one_entry_always_stays(per):
    kept = prune_magnitude([D1], density=1e-3, per=per)
    assert kept.count_nonzero() == (1 if per == "tensor" else 2)


@pytest.mark.parametrize("columns", [5, 1 << 17, (1 << 17) + 1])
def test_rows_do_not_depend_on_how_many_are_worked_on_at_once(columns):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-3, 4, (3, columns), generator=generator).float()
    whole = prune_magnitude([x], density=0.3, per="row")
    rows = [prune_magnitude([row], density=0.3) for row in x]
    assert torch.equal(whole, torch.stack(rows))


def test_a_convolution_has_a_row_for_each_output():
    x = torch.arange(1.0, 13.0).reshape(2, 3, 2)
    kept = prune_magnitude([x], density=0.5, per="row")
    assert torch.equal(kept[0].flatten(), torch.tensor([0.0, 0, 0, 4, 5, 6]))


@pytest.mark.parametrize("per", ["tensor", "row"])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 3), (3, 0)])
def test_odd_shapes_keep_their_shape(shape, per):
    assert torch.equal(prune_magnitude([torch.ones(shape)], per=per), torch.ones(shape))

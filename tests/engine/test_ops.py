"""Laws of the arithmetic that methods share."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import ops
from engine.pick import Largest, Middle
from registry.errors import BadParameter

LONG = ops.BLOCK + 1000
few = settings(deadline=None, max_examples=60)
entries = st.lists(st.integers(-3, 3), max_size=40)


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@few
@given(n=st.integers(0, 5 * ops.BLOCK))
def test_blocks_cover_everything_once_and_in_order(n):
    edges = [(b.start, b.stop) for b in ops.blocks(torch.empty(n))]
    assert [a for a, _ in edges] == [0, *(b for _, b in edges)][: len(edges)]
    assert n == (edges[-1][1] if edges else 0)
    assert all(0 < b - a <= ops.BLOCK for a, b in edges)


def test_shares_sum_to_one():
    assert ops.shares([1, 3]) == [0.25, 0.75]


@pytest.mark.parametrize("weights", [[0.0], [1, -1], [0.1, 0.2, -0.3]])
def test_weights_that_sum_to_zero_have_no_shares(weights):
    with pytest.raises(BadParameter, match="sum to 0"):
        ops.shares(weights)


def test_weighted_sum_multiplies_and_adds_in_float32_and_in_order():
    x, y, z = (random(LONG, seed=s) for s in range(3))
    f = np.float32
    expected = (x.numpy() * f(0.3) + y.numpy() * f(0.1)) + z.numpy() * f(-2.7)
    assert np.array_equal(ops.weighted_sum([x, y, z], [0.3, 0.1, -2.7]).numpy(), expected)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 64, 1000])
def test_fold_sums_the_first_axis(n):
    values = torch.arange(3 * n, dtype=torch.float64).reshape(n, 3)
    expected = values.sum(0)
    assert torch.equal(ops.fold(values), expected)


def chosen(values, density):
    """Where `largest` keeps entries, told apart by adding nothing to entries that are zero."""
    found = ops.largest(values, density, torch.empty_like(values))
    return found.keep(values)


def expected_choice(values, density):
    k = max(1, int(density * len(values)))
    order = np.argsort(-np.abs(values.numpy()), kind="stable")
    kept = torch.zeros_like(values)
    kept[order[:k]] = values[order[:k]]
    return kept


@few
@given(values=entries, density=st.floats(0.01, 1.0))
def test_largest_keeps_exactly_so_many_and_the_first_of_equal_ones(values, density):
    tensor = torch.tensor(values, dtype=torch.float32)
    assert torch.equal(chosen(tensor, density), expected_choice(tensor, density))


@pytest.mark.parametrize("density", [1e-9, 0.2, 0.9])
@pytest.mark.parametrize("n_values", [2, 9, 1_000_000])
def test_largest_keeps_exactly_so_many_of_a_long_tensor(density, n_values):
    generator = torch.Generator().manual_seed(3)
    size = torch.randint(1, n_values, (LONG,), generator=generator).float()
    tensor = size * torch.where(random(LONG) > 0, 1.0, -1.0)
    kept = chosen(tensor, density)
    assert int(torch.count_nonzero(kept)) == max(1, int(density * LONG))
    assert torch.equal(kept, expected_choice(tensor, density))


@pytest.mark.parametrize("density", [0.05, 0.1, 0.5])
def test_largest_of_a_tensor_of_mostly_zeros_keeps_none_of_them(density):
    tensor = random(LONG) * (random(LONG, seed=1) > 1.2816)  # a tenth is not zero
    kept = chosen(tensor, density)
    n_changed = int(torch.count_nonzero(tensor))
    assert int(torch.count_nonzero(kept)) == min(n_changed, int(density * LONG))
    assert torch.equal(kept, expected_choice(tensor, density))


def test_keeping_a_slice_is_a_slice_of_what_is_kept():
    tensor = torch.ones(100)
    found = ops.largest(tensor, 0.55, torch.empty(100))
    for a, b in ((0, 30), (30, 70), (50, 60), (55, 56), (60, 100), (40, 40)):
        assert torch.equal(found.keep(tensor[a:b], a), found.keep(tensor)[a:b])
    assert found.keep(tensor).tolist() == [1.0] * 55 + [0.0] * 45


def test_largest_of_one_entry_keeps_it():
    assert chosen(torch.tensor([-0.5]), 0.2).tolist() == [-0.5]


def test_signs_are_elected_by_sum_or_by_count():
    parts = [
        torch.tensor([3.0, 0, 1, 0]),
        torch.tensor([-1.0, 0, -1, -2]),
        torch.tensor([-1.0, 0, 0, 0]),
    ]
    assert ops.elect_signs(parts, "sum").tolist() == [1, 0, 0, -1]
    assert ops.elect_signs(parts, "count").tolist() == [-1, 0, 0, -1]


@pytest.mark.parametrize("sign", [-1, 0, 1])
def test_ties_are_settled_and_nothing_else_changes(sign):
    assert ops.settle_ties(torch.tensor([-1.0, 0.0, 1.0]), sign).tolist() == [-1, sign, 1]


def test_only_agreeing_entries_are_averaged():
    parts = [torch.tensor([2.0, 2, -2, 0]), torch.tensor([4.0, -4, -4, 0])]
    signs = torch.tensor([1.0, -1, 0, 1])
    mean = ops.agreeing_mean(parts, signs, [1, 1], normalize=True)
    total = ops.agreeing_mean(parts, signs, [1, 1], normalize=False)
    assert mean.tolist() == [3, -4, 0, 0]
    assert total.tolist() == [6, -4, 0, 0]


def test_weights_that_cancel_divide_by_one():
    parts = [torch.tensor([2.0]), torch.tensor([4.0])]
    mean = ops.agreeing_mean(parts, torch.tensor([1.0]), [1, -1], normalize=True)
    assert mean.tolist() == [6]


def test_picks_without_a_kernel_are_summed_and_compared_all_the_same():
    values = torch.randn(300_000, generator=torch.Generator().manual_seed(0))
    middle = Middle(Largest(0.5, 0), Largest(2.0, 0))
    kept = middle.keep(values)
    assert 0 < int((kept != 0).sum()) < int((values.abs() > 0.5).sum())
    picks, plain = [middle, None], [kept, -values]
    both = [values, -values]
    assert torch.equal(ops.weighted_sum(both, [2, 1], picks), ops.weighted_sum(plain, [2, 1]))
    assert torch.equal(ops.agreement(both, [2, 1], picks=picks), ops.agreement(plain, [2, 1]))
    found = ops.votes(both, [2, 1], picks, "sum")
    assert found == ops.votes(plain, [2, 1], [None, None], "sum")

"""TIES-Merging, by hand on the fixture of two models, with the numbers of four implementations."""

import pytest
import torch

from engine.methods.ties import ties

D1 = torch.tensor([[1.0, -2, 3, -4], [5, 6, -7, 8]])
D2 = torch.tensor([[2.0, 1, -6, -1], [-3, 4, 7, 5]])
E1, E2 = torch.tensor([2.0, -1]), torch.tensor([-4.0, 3])


def test_three_of_eight_entries_as_mergellm_merges_them():
    expected = torch.tensor([[0, 0, -6, 0], [0, 6, 7, 6.5]])
    assert torch.equal(ties([D1, D2], density=3 / 8), expected)
    assert ties([E1, E2], density=1.0).tolist() == [-4, 3]


def test_five_of_eight_entries_as_the_authors_merge_them():
    expected = torch.tensor([[0, 0, -6, -4], [5, 5, 7, 6.5]])
    assert torch.equal(ties([D1, D2], density=5 / 8), expected)


def test_half_of_the_entries_as_mergekit_merges_them():
    expected = torch.tensor([[0, 0, -6, 0], [5, 5, 7, 6.5]])
    assert torch.equal(ties([D1, D2], density=0.5, tie="positive"), expected)


def test_unequal_weights_as_mergekit_merges_them():
    merged = ties([D1, D2], density=1.0, weight=[0.3, 0.7])
    expected = torch.tensor([[1.7, 1, -6, -1.9], [-3, 4.6, 7, 5.9]])
    torch.testing.assert_close(merged, expected)


def test_disjoint_sum_without_normalizing():
    merged = ties([D1, D2], density=5 / 8, normalize=False)
    assert torch.equal(merged, torch.tensor([[0.0, 0, -6, -4], [5, 10, 7, 13]]))


@pytest.mark.parametrize(("tie", "settled"), [("majority", -7.0), ("positive", 7.0), ("drop", 0.0)])
def test_entries_that_cancel_follow_the_rule_for_ties(tie, settled):
    first, second = torch.tensor([-7.0, -1, -1, 2]), torch.tensor([7.0, -1, -1, 2])
    merged = ties([first, second], density=1.0, tie=tie)
    assert merged.tolist() == [settled, -1, -1, 2]


def test_without_a_majority_a_tie_is_dropped():
    merged = ties([torch.tensor([5.0, 1, -1]), torch.tensor([-5.0, 1, -1])], density=1.0)
    assert merged.tolist() == [0, 1, -1]


def test_signs_can_be_counted_instead_of_summed():
    models = [torch.tensor([x]) for x in (9.0, -1.0, -1.0)]
    assert ties(models, density=1.0, sign="sum").tolist() == [9]
    assert ties(models, density=1.0, sign="count").tolist() == [-1]


def test_exactly_so_many_entries_stay_and_the_first_of_equal_ones():
    assert ties([torch.tensor([1.0, 1, 1, 1])], density=0.5).tolist() == [1, 1, 0, 0]
    assert ties([torch.tensor([1.0, -2, 1, 2, 1])], density=0.6).tolist() == [1, -2, 0, 2, 0]


@pytest.mark.parametrize("density", [0.2, 0.01, 1e-9])
def test_at_least_one_entry_stays(density):
    assert ties([torch.tensor([0.5])], density=density).tolist() == [0.5]
    assert ties([torch.tensor([0.5, -2, 1])], density=density).tolist() == [0, -2, 0]


def test_each_model_may_have_its_own_density():
    merged = ties([torch.tensor([4.0, 1]), torch.tensor([2.0, 3])], density=[0.5, 1.0])
    assert merged.tolist() == [3, 3]


def test_one_model_at_density_one_is_given_back():
    assert torch.equal(ties([D1], density=1.0), D1)


def test_copies_of_a_model_are_that_model_trimmed():
    assert torch.equal(ties([D1] * 3), ties([D1]))


def test_lambda_scales_the_result():
    assert torch.equal(ties([D1, D2], lambda_=2.0), 2 * ties([D1, D2]))
    assert torch.equal(ties([D1, D2], lambda_=0.0), torch.zeros(2, 4))


def test_zero_task_vectors_change_nothing():
    assert torch.equal(ties([torch.zeros(5), torch.zeros(5)]), torch.zeros(5))


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 3)])
def test_odd_shapes_keep_their_shape(shape):
    assert torch.equal(ties([torch.ones(shape), torch.full(shape, 3.0)]), torch.full(shape, 2.0))


def test_a_tensor_of_several_blocks_is_trimmed_as_a_whole():
    delta = torch.randn(700, 501, generator=torch.Generator().manual_seed(0))
    merged = ties([delta], density=0.3)
    kept = merged != 0
    assert int(kept.sum()) == int(0.3 * delta.numel())
    assert torch.equal(merged[kept], delta[kept])
    assert float(delta[kept].abs().min()) >= float(delta[~kept].abs().max())


def test_majority_is_that_of_all_blocks():
    first = -torch.ones(400_000)
    second = torch.ones(400_000)
    second[-150_000:] = -1.0
    first[:10_000] = second[:10_000] = 2.0
    merged = ties([first, second], density=1.0)
    assert merged[200_000] == -1

"""Model Breadcrumbs, with the numbers of three implementations."""

import pytest
import torch

from engine.methods.breadcrumbs import breadcrumbs

D1 = torch.tensor([[1.0, -2, 3, -4], [5, 6, -7, 8]])
D2 = torch.tensor([[2.0, 1, -6, -1], [-3, 4, 7, 5]])
X = torch.tensor([0.1, -0.2, 0.3, -0.4, 0.5, -0.6, 0.7, -0.8])


def test_rows_as_the_authors_mask_them():
    assert breadcrumbs([D1], density=0.5, gamma=0.25, per="row").tolist() == [
        [0, -2, 3, 0],
        [0, 6, -7, 0],
    ]
    assert breadcrumbs([D2], density=0.5, gamma=0.25, per="row").tolist() == [
        [2, 1, 0, 0],
        [0, 4, 0, 5],
    ]


def test_a_tensor_as_mergellm_masks_it_but_for_one_entry_that_it_keeps_more():
    # there: density 0.5 and mask rate 0.25 keep the third to the sixth smallest, and the second
    assert breadcrumbs([D1], density=0.5, gamma=0.25).tolist() == [[0, 0, 3, -4], [5, 6, 0, 0]]


@pytest.mark.parametrize("size", [8, 50, 99])
def test_small_tensors_keep_their_task_vectors_and_lose_them_where_asked(size):
    delta = torch.arange(1.0, size + 1)
    assert int((breadcrumbs([delta], density=0.9) != 0).sum()) == int(0.9 * size)
    assert not breadcrumbs([delta], density=0.9, small="zero").any()


def test_a_hundred_entries_are_as_in_mergekit():
    delta = torch.arange(1.0, 101)
    for small in ("keep", "zero"):
        kept = breadcrumbs([delta], density=0.9, small=small)
        assert kept.nonzero().flatten().tolist() == list(range(9, 99))


def test_one_entry_stays():
    assert breadcrumbs([torch.tensor([3.0])], density=0.1).tolist() == [3]


def test_fewer_large_ones_go_where_the_density_wants_them():
    assert breadcrumbs([X], density=1.0, gamma=0.25).tolist() == X.tolist()
    assert breadcrumbs([X], density=0.875, gamma=0.25)[7] == 0


def test_of_equal_entries_the_first_are_the_largest():
    assert breadcrumbs([torch.ones(8)], density=0.5, gamma=0.25).tolist() == [
        0,
        0,
        1,
        1,
        1,
        1,
        0,
        0,
    ]


def test_weights_are_normalised_where_asked():
    merged = breadcrumbs([D1, D2], weight=[1.0, 3.0], density=1.0, normalize=True)
    torch.testing.assert_close(merged, (D1 + 3 * D2) / 4)

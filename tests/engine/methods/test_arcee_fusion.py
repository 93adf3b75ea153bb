"""Arcee Fusion, by hand on the fixture of two models."""

import pytest
import torch

from engine.divergence import row_divergences
from engine.method import Seen
from engine.methods.arcee_fusion import arcee_fusion, outliers
from engine.ops import BLOCK

W0 = torch.tensor([[4.0, -4, 8, 0], [2, 6, -8, 16]])
D1 = torch.tensor([[1.0, -2, 3, -4], [5, 6, -7, 8]])


def random(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_entries_that_stand_out_are_kept():
    delta = torch.tensor([[1.0, 0, 0], [0.1, 0.2, 0]])
    kept = arcee_fusion([delta], base=torch.zeros(2, 3))
    assert torch.equal(kept, torch.tensor([[1.0, 0, 0], [0, 0.2, 0]]))


def test_fixture_keeps_two_entries():
    assert arcee_fusion([D1], base=W0).tolist() == [[0, 0, 3, -4], [0, 0, 0, 0]]


def test_nothing_is_kept_where_nothing_stands_out():
    assert not arcee_fusion([D1 / 8], base=W0 / 8).any()


def test_quantiles_are_entries_of_the_tensor_below_the_exact_place():
    delta = torch.tensor([1.0, 2, 4, 8, 16])  # in one row: importances are in these ratios
    assert arcee_fusion([delta], base=torch.zeros(5)).tolist() == [0, 0, 0, 0, 16]
    delta = torch.tensor([1.0, 2, 4, 8])  # places 0, 1 and 2: the threshold is 2 + 1.5 · 3
    assert arcee_fusion([delta], base=torch.zeros(4)).tolist() == [0, 0, 0, 8]


def test_where_all_importances_are_equal_all_are_kept():
    shift = torch.full((2, 3), 0.5)  # softmax does not see it
    assert torch.equal(arcee_fusion([shift], base=torch.zeros(2, 3)), shift)
    assert arcee_fusion([torch.tensor([2.0])], base=torch.ones(1)).tolist() == [2]
    assert arcee_fusion([torch.zeros(2)], base=torch.ones(2)).tolist() == [0, 0]


def test_small_task_vectors_are_told_from_noise():
    base, delta = random(64, 48, seed=0), 1e-5 * random(64, 48, seed=1)
    one, other = (arcee_fusion([s * delta], base=base) for s in (1.0, 0.5))
    differing = int(((one != 0) != (other != 0)).sum())
    assert 0 < int((one != 0).sum()) < delta.numel() / 4
    assert differing < 5


def test_all_entries_of_a_large_tensor_count():
    base, delta = random(3, BLOCK, seed=0), 0.1 * random(3, BLOCK, seed=1)
    kept = arcee_fusion([delta], base=base)
    importance = (delta.abs() * row_divergences(delta, base)[:, None]).reshape(-1)
    ordered = importance.sort().values
    low, middle, high = (float(ordered[k * (len(ordered) - 1) // 4]) for k in (1, 2, 3))
    chosen = importance >= middle + 1.5 * (high - low)
    assert torch.equal(kept.reshape(-1), torch.where(chosen, delta.reshape(-1), 0.0))
    assert chosen.any()
    assert not chosen.all()


@pytest.mark.parametrize("cut", [1, 100])
def test_what_stands_out_is_found_by_slices(cut):
    base, delta = random(300, 50, seed=0), 0.1 * random(300, 50, seed=1)

    def look(measure, *, sample=0):
        for top in range(0, 300, cut):
            part = slice(top, top + cut)
            yield "w", measure(Seen("w", [delta[part]], base[part], start=50 * top))

    whole = outliers(look)
    parts = [
        arcee_fusion([delta[i : i + cut]], base=base[i : i + cut], whole=whole, start=50 * i)
        for i in range(0, 300, cut)
    ]
    assert torch.equal(torch.cat(parts), arcee_fusion([delta], base=base))


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 3), (3, 0), (2, 1)])
def test_odd_shapes_keep_their_shape(shape):
    delta = torch.full(shape, 2.0)
    assert torch.equal(arcee_fusion([delta], base=torch.ones(shape)), delta)

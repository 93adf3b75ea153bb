"""The zoo's merges on tensors small enough to be merged by hand."""

import math

import pytest
import torch
from zoo_lineage import merging


def state(*values):
    return {"w": torch.tensor(values)}


BASE = state(1.0, 1.0, 1.0, 1.0)
A = state(3.0, 1.0, 1.5, 0.9)
B = state(2.0, 0.0, 2.0, 1.0)


def test_linear_is_a_weighted_sum():
    torch.testing.assert_close(
        merging.linear([A, B], (0.6, 0.4))["w"], torch.tensor([2.6, 0.6, 1.7, 0.94])
    )


def test_task_arithmetic_adds_task_vectors_to_the_base():
    made = merging.task_arithmetic(BASE, [A, B], (0.7, 0.7))["w"]
    torch.testing.assert_close(made, torch.tensor([3.1, 0.3, 2.05, 0.93]))


def test_slerp_walks_the_arc():
    made = merging.slerp(state(1.0, 0.0), state(0.0, 1.0), 0.5)["w"]
    torch.testing.assert_close(made, torch.full((2,), math.sqrt(0.5)))
    torch.testing.assert_close(merging.slerp(A, A, 0.4)["w"], A["w"])


def test_ties_trims_elects_and_averages():
    made = merging.ties(BASE, [state(3.0, 1.0, 1.5, 0.9), state(-2.0, 0.0, 1.0, 1.0)], 0.5, 1.0)
    torch.testing.assert_close(made["w"], torch.tensor([-2.0, 0.0, 1.5, 1.0]))


def test_dare_drops_and_rescales():
    base, tuned = {"w": torch.zeros(2000)}, {"w": torch.ones(2000)}
    made = merging.dare(base, [tuned], (1.0,), 0.5, 1)["w"]
    assert sorted(set(made.tolist())) == [0.0, 2.0]
    assert float(made.mean()) == pytest.approx(1.0, abs=0.1)


def test_della_keeps_the_large_more_often():
    base, tuned = {"w": torch.zeros(4000)}, {"w": torch.linspace(0.1, 1.0, 4000)}
    kept = merging.della(base, [tuned], 0.5, 0.8, 1)["w"] != 0
    assert float(kept[2000:].float().mean()) == pytest.approx(0.7, abs=0.05)
    assert float(kept[:2000].float().mean()) == pytest.approx(0.3, abs=0.05)


def test_breadcrumbs_leaves_out_both_ends():
    base, tuned = {"w": torch.zeros(10)}, {"w": torch.arange(1.0, 11.0)}
    made = merging.breadcrumbs(base, [tuned], (1.0,), 0.7, 0.1)["w"]
    assert made.tolist() == [0.0, 0.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 0.0]


def test_model_stock_goes_as_far_as_the_parents_agree():
    zero = state(0.0, 0.0)
    orthogonal = merging.model_stock(zero, [state(1.0, 0.0), state(0.0, 1.0)])["w"]
    torch.testing.assert_close(orthogonal, torch.zeros(2))
    same = merging.model_stock(zero, [state(1.0, 2.0), state(1.0, 2.0)])["w"]
    torch.testing.assert_close(same, torch.tensor([1.0, 2.0]))

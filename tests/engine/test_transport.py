"""Transport: assignments and couplings, with hand-checkable examples and their laws."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.transport import assignment, coupling


def random(n, m, seed):
    return torch.rand(n, m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_best_of_all_permutations_is_found():
    gain = torch.tensor([[19.03, 6.01, 11.02], [42.06, 11.02, 34.04], [66.09, 19.03, 42.06]])
    assert assignment(gain.double()).tolist() == [1, 2, 0]


@given(n=st.integers(1, 5), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_no_permutation_gains_more(n, seed):
    gain = random(n, n, seed)
    found = assignment(gain)
    best = max(
        float(gain[torch.arange(n), order].sum()) for order in map(torch.tensor, permutations(n))
    )
    assert sorted(found.tolist()) == list(range(n))
    assert math.isclose(float(gain[torch.arange(n), found].sum()), best)


def permutations(n):
    if n == 0:
        return [[]]
    return [[*p[:i], n - 1, *p[i:]] for p in permutations(n - 1) for i in range(n)]


def test_what_gains_nothing_stays():
    assert assignment(torch.ones(4, 4, dtype=torch.float64)).tolist() == [0, 1, 2, 3]
    assert assignment(torch.zeros(3, 3, dtype=torch.float64)).tolist() == [0, 1, 2]


@pytest.mark.parametrize("solver", ["exact", "sinkhorn"])
@given(n=st.integers(1, 6), m=st.integers(1, 6), seed=st.integers(0, 99))
@settings(max_examples=12, deadline=None)
def test_shares_are_equal(solver, n, m, seed):
    plan = coupling(random(n, m, seed), solver, 0.1)
    assert plan.min() >= 0
    torch.testing.assert_close(plan.sum(0), torch.full((m,), 1 / m).double(), rtol=0, atol=1e-4)
    torch.testing.assert_close(plan.sum(1), torch.full((n,), 1 / n).double(), rtol=0, atol=1e-4)


def test_exact_is_cheapest_and_soft_comes_near_it():
    cost = random(4, 6, 1)
    exact = float((coupling(cost, "exact", 0.1) * cost).sum())
    near = [float((coupling(cost, "sinkhorn", r) * cost).sum()) for r in (1.0, 0.1, 0.01)]
    assert exact <= near[2] < near[1] < near[0]
    assert math.isclose(exact, near[2], rel_tol=0.05)


def test_no_cost_at_all_is_no_trouble():
    plan = coupling(torch.zeros(2, 2, dtype=torch.float64), "sinkhorn", 0.06)
    assert plan.tolist() == [[0.25, 0.25], [0.25, 0.25]]
    assert coupling(torch.zeros(2, 2, dtype=torch.float64), "exact", 0.06).tolist() == [
        [0.5, 0],
        [0, 0.5],
    ]

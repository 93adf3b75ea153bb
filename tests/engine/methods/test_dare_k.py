"""DARE-k: factors by hand, DARE as a special case, and no bias for any k."""

import pytest
import torch

from engine.draws import Draws
from engine.methods.dare_k import dare_k
from engine.methods.dare_linear import dare_linear
from engine.methods.task_arithmetic import task_arithmetic


class Masks:
    """Draws whose numbers are given: 0 keeps an entry, 1 shrinks it."""

    start = 0

    def __init__(self, *masks):
        self.masks = masks

    def at(self, start):
        assert start == 0
        return self

    def uniform(self, model, shape):
        return torch.tensor(self.masks[model]).reshape(shape)


def test_the_example_of_the_unified_view():
    delta = torch.tensor([0.1, -0.2, 0.3, -0.4])
    merged = dare_k([delta], draws=Masks([1.0, 0, 1, 0]), density=0.5, k=0.5)
    torch.testing.assert_close(merged, torch.tensor([0.05, -0.3, 0.15, -0.6]))


@pytest.mark.parametrize("k", [-1.0, -0.5, 0.5, 0.8, 1.5])
def test_the_expectation_is_the_task_vector_for_every_k(k):
    delta = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    merged = dare_k([delta], draws=Draws(1, "w", ("a",)), density=0.25, k=k)
    error = (merged - delta).double()
    deviation = float(delta.double().square().sum() * 3) ** 0.5 * abs(k - 1)
    assert abs(float(error.sum())) < 5 * deviation


def test_k_0_is_dare_and_k_1_changes_nothing():
    deltas = [torch.randn(500, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    draws = Draws(3, "w", ("a", "b"))
    torch.testing.assert_close(dare_k(deltas, draws=draws, k=0.0), dare_linear(deltas, draws=draws))
    torch.testing.assert_close(dare_k(deltas, draws=draws, k=1.0), task_arithmetic(deltas))


def test_a_slice_draws_from_its_own_place_on():
    draws = Draws(3, "w", ("a",))
    merged = dare_k([torch.ones(300_000)], draws=draws.at(5), k=-1.0)
    stays = draws.uniform(0, torch.Size([300_005]))[5:] < 0.5
    assert torch.equal(merged, torch.where(stays, 3.0, -1.0))

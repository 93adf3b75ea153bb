"""Picks: what stays of a task vector, and what is 0."""

import pytest
import torch

from engine.draws import Draws
from engine.pick import Drawn, Largest, Middle

LONG = 300_001


@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
def test_chance_keeps_a_share_of_the_entries_as_they_are(density):
    values = torch.randn(LONG, generator=torch.Generator().manual_seed(0))
    kept = Drawn(Draws(0, "w", ("a",)), 0, density).keep(values)
    stays = kept != 0
    assert torch.equal(kept[stays], values[stays])
    deviation = (density * (1 - density) / LONG) ** 0.5
    assert abs(float(stays.double().mean()) - density) <= 5 * deviation


def test_draws_go_on_within_a_slice():
    values = torch.ones(1000)
    drawn = Drawn(Draws(3, "w", ("a",), 17), 0, 0.5)
    stays = Draws(3, "w", ("a",)).uniform(0, torch.Size([1017])) < 0.5
    assert torch.equal(drawn.keep(values), stays[17:].float())
    assert torch.equal(drawn.keep(values[301:], 301), stays[318:].float())


def test_of_equal_entries_the_first_stay():
    values = torch.tensor([1.0, -2, 2, 3, 2, 0])
    assert Largest(2.0, 3).keep(values).tolist() == [0, -2, 2, 3, 0, 0]
    assert Largest(2.0, 3).keep(values[2:], 2).tolist() == [2, 3, 0, 0]
    assert Largest(0.0, 6).keep(values).tolist() == values.tolist()


def test_of_the_middle_neither_the_smallest_nor_the_largest_stay():
    values = torch.tensor([1.0, -2, 2, 3, 2, 0])
    middle = Middle(Largest(2.0, 3), Largest(3.0, 6))
    assert middle.keep(values).tolist() == [0, -2, 2, 0, 0, 0]
    assert middle.keep(values[1:4], 1).tolist() == [-2, 2, 0]
    assert Middle(Largest(2.0, 3), Largest(2.0, 2)).keep(values).tolist() == [0, 0, 2, 0, 0, 0]

"""Divergence of rows: the numbers, and that each row has its own."""

import math

import pytest
import torch

from engine.divergence import row_divergences


def random(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_it_is_that_of_the_rows_as_distributions():
    e = math.e
    p, q = [e / (e + 1), 1 / (e + 1)], [0.5, 0.5]
    expected = sum(x * math.log(x / y) for x, y in zip(p, q, strict=True))
    found = row_divergences(torch.tensor([[2.0, 1.0]]), torch.zeros(1, 2))
    assert found.tolist() == pytest.approx([expected], rel=1e-6)


@pytest.mark.parametrize("columns", [3, 1000, 140_000])
def test_rows_do_not_depend_on_their_neighbours(columns):
    base, delta = (
        random(300_000 // columns, columns, seed=0),
        random(300_000 // columns, columns, seed=1),
    )
    whole = row_divergences(delta, base)
    assert (whole > 0).all()
    for cut in (1, 64):
        parts = [
            row_divergences(delta[i : i + cut], base[i : i + cut])
            for i in range(0, min(len(base), 640), cut)
        ]
        assert torch.equal(torch.cat(parts), whole[:640])


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 1)])
def test_odd_shapes_diverge_from_nothing(shape):
    if shape[1]:
        assert not row_divergences(torch.ones(shape), torch.ones(shape)).any()

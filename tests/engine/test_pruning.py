"""Ranks, middles and chances: laws over all shapes."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.draws import Draws
from engine.pruning import chances, middle, ranks, realised

SHAPES = st.sampled_from([(), (0,), (1,), (7,), (3, 4), (5, 1), (1, 6), (2, 3, 2)])


@st.composite
def tensors(draw):
    shape, seed = draw(SHAPES), draw(st.integers(0, 99))
    return torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(seed)).float()


@given(tensors())
def test_law_ranks_are_a_permutation_that_sorts(tensor):
    rows = tensor.reshape(1, -1)
    found = ranks(rows)[0]
    assert sorted(found.tolist()) == list(range(rows.shape[1]))
    by_rank = rows[0].abs()[found.argsort()]
    assert torch.equal(by_rank, rows[0].abs().sort().values)


@given(tensors(), st.floats(0.01, 1), st.floats(0, 1), st.sampled_from(["tensor", "row"]))
def test_law_exactly_so_many_stay_and_they_stay_as_they_are(tensor, density, gamma, per):
    delta = (
        tensor + tensor.sign() * 0.5 + (tensor == 0)
    )  # no zeros, so that what stays can be counted
    kept = middle(delta, density, gamma, per, keep_small=True)
    assert torch.equal(kept[kept != 0], delta[kept != 0])
    rows = delta.shape[0] if per == "row" and delta.dim() > 1 else 1
    size = delta.numel() // max(1, rows)
    assert int((kept != 0).sum()) == rows * min(size, max(1, int(density * size)))


@given(tensors(), st.floats(0.01, 1), st.floats(0, 1))
def test_law_chances_are_probabilities_around_the_density(tensor, density, epsilon):
    found = chances(tensor, density, epsilon)
    assert found.shape == tensor.shape
    assert bool(((found >= 0) & (found <= 1)).all())
    if tensor.numel():
        assert abs(float(found.mean()) - density) < 1e-5


def test_what_a_mask_leaves_is_measured():
    delta = torch.ones(10_000)
    assert abs(realised(delta, 0.25, 0, Draws(0, "w", ("a",))) - 0.25) < 0.02
    assert realised(torch.zeros(5), 0.5, 0, Draws(0, "w", ("a",))) == 1.0

"""Ranks, middles and chances: laws over all shapes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.draws import Draws
from engine.magnitude import as_rows
from engine.method import Seen, alone
from engine.pruning import (
    chances,
    drop_by_chance,
    drop_by_rank,
    l1_factors,
    l1_shares,
    magprune,
    middles,
    ranks,
)

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
    rows = as_rows(delta, per)
    kept = middles(rows, density, gamma, keep_small=True)
    assert torch.equal(kept[kept != 0], rows[kept != 0])
    size = rows.shape[1]
    assert int((kept != 0).sum()) == len(rows) * min(size, max(1, int(density * size)))


@given(tensors(), st.floats(0.01, 1), st.floats(0, 1))
def test_law_chances_are_probabilities_around_the_density(tensor, density, epsilon):
    found = chances(tensor, density, epsilon)
    assert found.shape == tensor.shape
    assert bool(((found >= 0) & (found <= 1)).all())
    if tensor.numel():
        assert abs(float(found.mean()) - density) < 1e-5


DRAWS = Draws(0, "w", ("a", "b"))


@given(tensors(), st.floats(0.01, 1), st.floats(0, 1), st.booleans())
def test_law_what_is_dropped_by_rank_is_dropped_by_its_chance(tensor, density, epsilon, by_chance):
    stays = chances(tensor, density, epsilon)
    for draws in (DRAWS, DRAWS.at(65_530)):
        expected = drop_by_chance(tensor, stays, 1, draws, by_chance=by_chance)
        found = drop_by_rank(tensor, density, epsilon, 1, draws, by_chance=by_chance)
        assert found.shape == tensor.shape
        assert torch.equal(found.view(torch.int32), expected.view(torch.int32))


@pytest.mark.parametrize("rescale_by", ["keep", "l1", None])
def test_task_vectors_are_pruned_each_with_its_own_density_and_draws(rescale_by):
    deltas = [torch.randn(70, 50, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    asked = {"density": [0.6, 0.3], "epsilon": 0.1}
    factors = l1_factors(by_rows(deltas, 7), **asked)
    kept = magprune(deltas, DRAWS, **asked, rescale_by=rescale_by, factors=None)
    for i, (delta, part) in enumerate(zip(deltas, kept, strict=True)):
        stays = chances(delta, asked["density"][i], 0.1)
        expected = drop_by_chance(delta, stays, i, DRAWS, by_chance=rescale_by == "keep")
        assert torch.equal(part, expected * (factors[i] if rescale_by == "l1" else 1))
    if rescale_by == "l1":
        given_factors = magprune(deltas, DRAWS, **asked, rescale_by="l1", factors=[2.0, 0.0])
        assert torch.allclose(given_factors[0] * factors[0], kept[0] * 2)
        assert not given_factors[1].any()


def by_rows(deltas, height):
    """Look at so many rows at once."""
    columns = deltas[0].shape[1]

    def look(measure, *, sample=0):
        for top in range(0, len(deltas[0]), height):
            parts, start = [delta[top : top + height] for delta in deltas], top * columns
            yield "w", measure(Seen("w", parts, draws=DRAWS.at(start), start=start))

    return look


def test_what_a_mask_leaves_is_measured():
    delta = torch.ones(10_000)
    look = alone(Seen("w", [delta, torch.zeros(10_000)], draws=DRAWS))
    share, nothing = l1_shares(look, density=[0.25, 0.5])
    assert abs(share - 0.25) < 0.02
    assert nothing == 1.0


def test_what_a_mask_by_rank_leaves_is_made_up_for_whatever_the_slices():
    deltas = [torch.randn(70, 50, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    found = [l1_factors(by_rows(deltas, n), density=0.6, epsilon=[0.1, 0.3]) for n in (1, 64, 70)]
    assert found[0] == found[1] == found[2]
    for i, (delta, epsilon) in enumerate(zip(deltas, (0.1, 0.3), strict=True)):
        kept = drop_by_chance(delta, chances(delta, 0.6, epsilon), i, DRAWS)
        assert float(kept.mul_(found[0][i]).abs().sum()) == pytest.approx(float(delta.abs().sum()))


def test_without_draws_nothing_is_dropped_by_chance():
    with pytest.raises(ValueError, match="no draws"):
        l1_shares(alone(Seen("w", [torch.ones(2)])))

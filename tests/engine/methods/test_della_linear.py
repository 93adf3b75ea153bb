"""DELLA without elected signs: chances by hand, the authors' numbers with their mask, and no bias."""

import pytest
import torch

from engine.draws import Draws
from engine.methods.della_linear import della_linear
from engine.pruning import chances

X = torch.tensor([[0.1, -0.2, 0.3, -0.4], [0.5, -0.6, 0.7, -0.8]])


DRAWN = Draws(2, "w", ("a",))
"""Draws that make the mask of the authors' example."""


def test_the_authors_numbers_with_their_mask():
    mask = torch.tensor([[0.0, 0, 1, 1], [1, 0, 1, 0]])
    assert torch.equal(DRAWN.uniform(0, X.shape).lt(chances(X, 0.5, 0.15)).float(), mask)
    merged = della_linear([X], draws=DRAWN, density=0.5, epsilon=0.15)
    expected = torch.tensor([[0, 0, 0.545455, -0.615385], [1.428571, 0, 1.272727, 0]])
    torch.testing.assert_close(merged, expected, rtol=1e-5, atol=1e-6)


def test_chances_grow_with_the_rank_and_stay_probabilities():
    torch.testing.assert_close(
        chances(X, 0.5, 0.15), torch.tensor([0.35, 0.45, 0.55, 0.65]).expand(2, 4)
    )
    assert chances(torch.ones(3, 1), 0.5, 0.2).tolist() == [[0.5]] * 3
    assert chances(X, 1.0, 0.3).eq(1).all()
    narrow = chances(X, 0.9, 0.3)
    assert float(narrow.min()) == pytest.approx(0.8)
    assert float(narrow.max()) == 1.0


def test_the_expectation_is_the_task_vector():
    delta = torch.randn(200, 300, generator=torch.Generator().manual_seed(0))
    merged = della_linear([delta], draws=Draws(1, "w", ("a",)), density=0.5, epsilon=0.2)
    error = (merged - delta).double()
    assert abs(float(error.sum())) < 6 * float(error.square().sum()) ** 0.5


def test_the_l1_norm_is_kept_where_asked():
    delta = torch.randn(30, 40, generator=torch.Generator().manual_seed(0))
    merged = della_linear(
        [delta], draws=Draws(1, "w", ("a",)), density=0.4, epsilon=0.1, rescale_by="l1"
    )
    assert float(merged.abs().sum()) == pytest.approx(float(delta.abs().sum()), rel=1e-5)
    plain = della_linear(
        [delta], draws=Draws(1, "w", ("a",)), density=0.4, epsilon=0.1, rescale=False
    )
    assert torch.equal(plain[plain != 0], delta[plain != 0])

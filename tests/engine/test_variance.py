"""What varies among models, looked at whole and in slices, with kernels and without."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import kernels
from engine.method import Seen, alone
from engine.pick import Largest
from engine.products import SUMMED
from engine.variance import agreed, squares_among, variance, weighed

LONG = 2 * SUMMED + 1111
PICKS = {
    "all": None,
    "none": Largest(np.inf, 0),
    "all that vary": Largest(0.0, 1 << 62),
    "the largest": Largest(0.25, 0),
    "the largest, and all that are equal": Largest(0.25, 1 << 62),
    "the largest, and some that are equal": Largest(0.25, SUMMED + 700),
}


@pytest.fixture
def with_and_without(monkeypatch):
    """Compute something with kernels, if there is a compiler, and without."""

    def both(compute):
        first = compute()
        with monkeypatch.context() as patch:
            patch.setattr(kernels, "library", lambda: None)
            return first, compute()

    return both


def random(n_models, n=LONG, *, coarse=True):
    """Task vectors; coarse ones have many variances that are equal, and 0.25 among them."""
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(n, generator=generator) for _ in range(n_models)]
    return [m.round() for m in made] if coarse else made


def bits(values):
    return values.view(torch.int32)


def test_models_weigh_by_their_squares_where_entries_were_selected():
    deltas = [torch.tensor([1.0, 2, 0, 5]), torch.tensor([1.0, 0, 0, -5])]
    assert weighed(alone(Seen("w", deltas))).values == [30 / 56, 26 / 56]
    half = weighed(alone(Seen("w", deltas)), select_topk=0.5)
    assert half.values == [0.5, 0.5]
    assert agreed(deltas, half.values, half.selected, tensor="w").tolist() == [0, 0, 0, 5]
    assert agreed(deltas, half.values, None, tensor="w").tolist() == [1, 2, 0, 5]
    assert weighed(alone(Seen("w", deltas)), least=1e6).values == [0.5, 0.5]


def test_slices_find_what_the_tensor_does():
    deltas = [d / 10 for d in random(3, 1000)]

    def look(measure, *, sample=0):
        for start in range(0, 1000, 64):
            part = [d[start : start + 64] for d in deltas]
            yield "w", measure(Seen("w", part, start=start))

    whole = weighed(alone(Seen("w", deltas)), select_topk=0.3)
    cut = weighed(look, select_topk=0.3)
    torch.testing.assert_close(cut.values, whole.values)
    parts = [
        agreed([d[i : i + 64] for d in deltas], [1.0] * 3, cut.selected, tensor="w", start=i)
        for i in range(0, 1000, 64)
    ]
    expected = agreed(deltas, [1.0] * 3, whole.selected, tensor="w")
    assert torch.equal(torch.cat(parts), expected)


@pytest.mark.parametrize("n_models", [1, 2, 3, 7, kernels.MOST, kernels.MOST + 1])
@pytest.mark.parametrize("coarse", [False, True])
def test_variances_are_alike(*, n_models, coarse, with_and_without):
    deltas = random(n_models, 3001, coarse=coarse)
    one, other = with_and_without(lambda: variance(deltas))
    assert torch.equal(bits(one), bits(other))
    expected = np.var([d.double().numpy() for d in deltas], axis=0)
    np.testing.assert_allclose(one.numpy(), expected, rtol=1e-7, atol=1e-30)


@pytest.mark.parametrize("size", [1e-30, 1e-20, 1e18, 1e19, 1e38])
def test_variances_of_all_sizes_are_alike(size, with_and_without):
    deltas = [d * size for d in random(3, 1025, coarse=False)]
    one, other = with_and_without(lambda: variance(deltas))
    assert torch.equal(bits(one), bits(other))


@settings(max_examples=60)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(1, 70))
def test_models_that_are_alike_do_not_vary(value, n_models):
    assert variance([torch.tensor([value])] * n_models).tolist() == [0]


@pytest.mark.parametrize("pick", PICKS.values(), ids=PICKS)
@pytest.mark.parametrize("n_models", [2, 3])
def test_squares_of_what_varies_are_alike(pick, n_models, with_and_without):
    deltas = random(n_models)
    one, other = with_and_without(lambda: squares_among(deltas, pick))
    assert np.array_equal(one, other)
    assert one.shape == (3, n_models)
    if pick is not None:
        chosen = (pick.keep(variance(deltas)) != 0).double()
        expected = [float((d.double() ** 2 * chosen).sum()) for d in deltas]
        np.testing.assert_allclose(one.sum(0), expected, rtol=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.35, 0.8, 0.999])
@pytest.mark.parametrize("lambda_", [1.0, -0.7])
def test_what_is_selected_agrees_alike(share, lambda_, with_and_without):
    deltas = [d.reshape(-1, 23) for d in random(3, 23 * 3001)]

    def made():
        found = weighed(alone(Seen("w", deltas)), select_topk=share)
        return agreed(deltas, found.values, found.selected, tensor="w", lambda_=lambda_)

    one, other = with_and_without(made)
    assert one.shape == deltas[0].shape
    assert torch.equal(bits(one), bits(other))
    varies = int((variance(deltas) != 0).sum())
    assert (one != 0).sum() <= int(share * varies)

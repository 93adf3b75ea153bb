"""Laws of the random numbers, and their agreement with PCG64DXSM written out in plain integers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.draws import Draws
from registry.fingerprint import digest_text

DRAWS = Draws(seed=7, tensor="model.layers.0.mlp.up_proj.weight", models=("aa", "bb"))
MANY = torch.Size([1 << 18])


def bits(tensor):
    return tensor.view(torch.int32)


def pcg64dxsm(state, increment, n):
    """O'Neill's generator: a 128-bit congruential step and the DXSM ("double xorshift multiply") output."""
    multiplier, mask = 0xDA942042E4DD58B5, (1 << 64) - 1
    for _ in range(n):
        high, low = state >> 64, (state & mask) | 1
        high ^= high >> 32
        high = high * multiplier & mask
        high ^= high >> 48
        yield high * low & mask
        state = (state * multiplier + increment) & ((1 << 128) - 1)


def test_draws_are_the_upper_bits_of_pcg64dxsm():
    key = digest_text(f"7\0bb\0{DRAWS.tensor}")
    start = np.random.PCG64DXSM(int(key, 16)).state["state"]
    words = pcg64dxsm(start["state"], start["inc"], 50)
    halves = [half for word in words for half in (word & 0xFFFFFFFF, word >> 32)]
    expected = torch.tensor([(half >> 8) / 2**24 for half in halves])
    assert torch.equal(DRAWS.uniform(1, torch.Size([100])), expected)


def test_draws_never_change():
    expected = [13962603, 10766915, 11077609, 9850190, 11891007, 4182782]
    drawn = Draws(0, "w", ("a",)).uniform(0, torch.Size([6])) * 2**24
    assert drawn.tolist() == expected


@settings(deadline=None, max_examples=60)
@given(
    start=st.integers(0, 2**40),
    n=st.integers(0, 300),
    cut=st.tuples(st.integers(0, 300), st.integers(0, 300)),
)
def test_a_slice_draws_what_the_whole_draws_there(start, n, cut):
    a, b = sorted(min(c, n) for c in cut)
    whole = DRAWS.at(start).uniform(0, torch.Size([n]))
    part = DRAWS.at(start + a).uniform(0, torch.Size([b - a]))
    assert torch.equal(bits(whole[a:b]), bits(part))


@pytest.mark.parametrize("start", [0, 1, 2**17 - 1, 2**17, 200_001])
def test_a_slice_of_many_draws_what_the_whole_draws_there(start):
    whole = DRAWS.uniform(0, torch.Size([start + 300_000]))
    assert torch.equal(whole[start:], DRAWS.at(start).uniform(0, torch.Size([300_000])))


def test_a_slice_across_two_to_the_32_is_drawn_as_any_other():
    before = DRAWS.at(2**32 - 5).uniform(0, torch.Size([10]))
    assert torch.equal(before[5:], DRAWS.at(2**32).uniform(0, torch.Size([5])))
    assert not torch.equal(before[5:], DRAWS.uniform(0, torch.Size([5])))


def test_shape_only_lays_out_the_flat_draws():
    flat = DRAWS.uniform(0, torch.Size([12]))
    assert torch.equal(DRAWS.uniform(0, torch.Size([3, 4])), flat.reshape(3, 4))
    assert DRAWS.uniform(0, torch.Size([])).shape == ()
    assert DRAWS.uniform(0, torch.Size([3, 0])).shape == (3, 0)


def test_order_of_models_does_not_matter():
    turned = Draws(DRAWS.seed, DRAWS.tensor, ("bb", "aa"))
    assert torch.equal(DRAWS.uniform(0, MANY), turned.uniform(1, MANY))


@pytest.mark.parametrize(
    ("first", "second"),
    [(DRAWS, Draws(7, DRAWS.tensor, ("cc",))), (DRAWS, Draws(8, DRAWS.tensor, DRAWS.models)),
     (DRAWS, Draws(7, "model.layers.1.mlp.up_proj.weight", DRAWS.models)),
     (DRAWS, DRAWS.at(1)), (DRAWS, DRAWS.at(2)), (DRAWS, DRAWS.at(2**32)),
     (Draws(1, "2", ("a",)), Draws(12, "", ("a",)))],
    ids=["model", "seed", "tensor", "next", "next word", "far", "digits move"],
)  # fmt: skip
def test_draws_of_different_places_are_uncorrelated(first, second):
    pair = torch.stack([first.uniform(0, MANY), second.uniform(0, MANY)]).double()
    # the correlation of 2**18 independent pairs has a standard deviation of 1/512
    assert abs(float(torch.corrcoef(pair)[0, 1])) < 5 / 512


@pytest.mark.parametrize("start", [0, 12_345, 2**32 - 1000])
def test_draws_are_uniform(start):
    drawn = DRAWS.at(start).uniform(0, MANY).double()
    assert float(drawn.min()) >= 0
    assert float(drawn.max()) < 1
    n = MANY.numel()
    assert abs(float(drawn.mean()) - 0.5) < 5 * (1 / 12 / n) ** 0.5
    counts = torch.bincount((drawn * 256).long(), minlength=256).double()
    chi_square = float(((counts - n / 256) ** 2 / (n / 256)).sum())
    assert 255 - 5 * 510**0.5 < chi_square < 255 + 5 * 510**0.5


def test_lowest_bits_are_uniform_too():
    low = (DRAWS.uniform(0, MANY) * 2**24).long() % 256
    counts = torch.bincount(low, minlength=256).double()
    chi_square = float(((counts - 1024) ** 2 / 1024).sum())
    assert 255 - 5 * 510**0.5 < chi_square < 255 + 5 * 510**0.5


def test_neighbouring_draws_are_independent():
    pairs = (DRAWS.uniform(0, MANY) * 16).long().reshape(-1, 2)
    counts = torch.bincount(pairs[:, 0] * 16 + pairs[:, 1], minlength=256).double()
    chi_square = float(((counts - 512) ** 2 / 512).sum())
    assert 255 - 5 * 510**0.5 < chi_square < 255 + 5 * 510**0.5

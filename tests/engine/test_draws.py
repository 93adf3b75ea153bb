"""Laws of the random numbers, and their agreement with xoshiro128+ and SplitMix64 written out in plain integers."""

from itertools import islice

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


def split_mix(state):
    """Steele, Lea and Flood's generator: the state it goes to and the word it gives."""
    state = (state + 0x9E3779B97F4A7C15) % 2**64
    word = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
    return state, word ^ (word >> 31)


def xoshiro128_plus(s):
    """Blackman and Vigna's generator of 32-bit words, from four of them."""
    while True:
        yield (s[0] + s[3]) % 2**32
        shifted = (s[1] << 9) % 2**32
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= shifted
        s[3] = (s[3] << 11 | s[3] >> 21) % 2**32


def generator(key, number):
    """The generator of this number, counted over all blocks."""
    halves = []
    for half in key:
        state = half + number * 0x9E3779B97F4A7C15
        halves.append(split_mix(state)[1])
    return xoshiro128_plus([half >> shift & (2**32 - 1) for half in halves for shift in (0, 32)])


def test_generators_are_those_of_their_authors():
    assert split_mix(split_mix(0)[0])[1] == 0x6E789E6AA1B965F4
    first = xoshiro128_plus([1, 2, 3, 4])
    assert [next(first) for _ in range(4)] == [5, 12295, 25178119, 27286542]


@pytest.mark.parametrize("start", [0, 65_536 - 512, 3 * 65_536 + 300])
def test_draws_are_the_upper_bits_of_generators_side_by_side(start):
    digest = digest_text(f"7\0bb\0{DRAWS.tensor}")
    key = int(digest[:16], 16), int(digest[16:32], 16)
    expected = []
    for place in range(start, start + 1024, 97):
        block, inside = divmod(place, 65_536)
        words = generator(key, block * 256 + inside % 256)
        word = next(islice(words, inside // 256, None))
        expected.append((word >> 8) / 2**24)
    drawn = DRAWS.at(start).uniform(1, torch.Size([1024]))[::97]
    assert torch.equal(drawn, torch.tensor(expected))


def test_draws_never_change():
    expected = [9456477, 11019196, 14403317, 16773511, 10312825, 3402324]
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

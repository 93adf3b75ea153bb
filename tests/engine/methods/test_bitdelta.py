"""BitDelta and its relatives, by hand."""

import math
from functools import partial

import pytest
import torch

from engine.draws import Draws
from engine.methods.bitdelta import bitdelta

D1 = torch.tensor([[1.0, -2, 3, -4], [5, 6, -7, 8]])
D2 = torch.tensor([[2.0, 1, -6, -1], [-3, 4, 7, 5]])
PROJECTION = "model.layers.3.self_attn.q_proj.weight"
DRAWS = Draws(0, PROJECTION, ("a",))
edit = partial(bitdelta, tensor=PROJECTION, draws=DRAWS)


@pytest.mark.parametrize(("delta", "scale", "error"), [(D1, 4.5, 0.453743), (D2, 3.625, 0.504413)])
def test_signs_and_the_mean_magnitude_stay(delta, scale, error):
    edited = edit([delta])
    assert torch.equal(edited, scale * delta.sign())
    assert float((edited - delta).norm() / delta.norm()) == pytest.approx(error, abs=1e-6)
    expected = math.sqrt(1 - scale**2 * 8 / float(delta.square().sum()))
    assert error == pytest.approx(expected, abs=1e-6)


def test_a_gaussian_loses_what_it_must():
    x = torch.randn(300, 300, generator=torch.Generator().manual_seed(0))
    error = float((edit([x]) - x).norm() / x.norm())
    assert error == pytest.approx(math.sqrt(1 - 2 / math.pi), abs=5e-3)


@pytest.mark.parametrize(("zero", "sign"), [("minus", -1), ("plus", 1), ("zero", 0)])
def test_zeros_go_where_the_paper_or_its_code_puts_them(zero, sign):
    edited = edit([torch.tensor([[0.0, -0.0, 4.0]])], zero=zero)
    torch.testing.assert_close(edited, torch.tensor([[sign, sign, 1.0]]) * 4 / 3)


def test_beta_scales_the_magnitude():
    assert torch.equal(edit([D1], beta=2.0), 2 * edit([D1]))


def test_more_bits_are_more_magnitudes():
    edited = edit([torch.tensor([[0.1, -0.2, 0.3, -0.4]])], bits=2)
    torch.testing.assert_close(edited, torch.tensor([[0.15, -0.15, 0.35, -0.35]]))
    torch.testing.assert_close(edit([D1], bits=4), D1)
    torch.testing.assert_close(edit([D1], bits=16), D1)


def test_of_equal_magnitudes_the_first_is_in_the_lower_block():
    edited = edit([torch.tensor([[2.0, 2.0, 1.0, 5.0]])], bits=2)
    assert torch.equal(edited, torch.tensor([[1.5, 3.5, 1.5, 3.5]]))


def test_an_error_does_not_grow_with_bits():
    x = torch.randn(50, 60, generator=torch.Generator().manual_seed(1))
    errors = [float((edit([x], bits=bits) - x).norm()) for bits in range(1, 8)]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize(("magnitudes", "deviation"), [("uniform", 3**-0.5), ("normal", 0.7555)])
def test_random_magnitudes_keep_signs_and_the_mean(magnitudes, deviation):
    x = torch.ones(400, 500)
    x[::2] = -1
    edited = edit([x], magnitudes=magnitudes)
    assert ((edited * x) >= 0).all()
    sizes = edited.abs().double()
    assert abs(float(sizes.mean()) - 1) < 5 * deviation / math.sqrt(x.numel())
    assert float(sizes.std()) == pytest.approx(deviation, rel=0.02)


def test_random_magnitudes_depend_on_the_seed():
    other = Draws(1, PROJECTION, ("a",))
    one, two = (
        bitdelta([D1], tensor=PROJECTION, draws=draws, magnitudes="normal")
        for draws in (DRAWS, other)
    )
    assert not torch.equal(one, two)
    assert torch.equal(one, edit([D1], magnitudes="normal"))


def test_a_slice_draws_its_magnitudes_from_its_own_place_on():
    edited = edit([torch.ones(3, 100_000)], draws=DRAWS.at(5), magnitudes="uniform")
    whole = DRAWS.uniform(0, torch.Size([300_005]))
    assert torch.equal(edited.reshape(-1), 2 * whole[5:])


def test_no_random_magnitude_is_so_near_to_two_steps_that_processors_could_differ():
    numbers = torch.arange(1 << 24, dtype=torch.float64)[:: 1 << 4] / (1 << 24)
    steps = torch.erfinv(numbers) * math.sqrt(math.pi) * (1 << 16)
    assert float((steps - steps.floor() - 0.5).abs().min()) > 1e-8


@pytest.mark.parametrize(
    ("name", "is_edited"),
    [
        ("model.layers.0.self_attn.o_proj.weight", True),
        ("model.layers.0.mlp.down_proj.weight", True),
        ("model.embed_tokens.weight", False),
        ("lm_head.weight", False),
        ("model.layers.0.input_layernorm.weight", False),
    ],
)
def test_only_projections_are_edited_unless_all_are(name, is_edited):
    edited = bitdelta([D1], tensor=name, draws=DRAWS)
    assert torch.equal(edited, D1) is not is_edited
    assert not torch.equal(bitdelta([D1], tensor=name, draws=DRAWS, all_tensors=True), D1)


def test_a_bias_of_a_projection_stays():
    bias = torch.tensor([2.0, -1.0])
    assert torch.equal(bitdelta([bias], tensor=PROJECTION[:-6] + "bias", draws=DRAWS), bias)


@pytest.mark.parametrize("bits", [1, 3])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 3), (1, 1)])
def test_odd_shapes_keep_their_shape_and_nothing_stays_nothing(shape, bits):
    assert torch.equal(edit([torch.ones(shape)], bits=bits, all_tensors=True), torch.ones(shape))
    assert not edit([torch.zeros(shape)], bits=bits, all_tensors=True).any()

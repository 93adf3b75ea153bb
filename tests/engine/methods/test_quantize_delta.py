"""Quantization of task vectors, by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.methods.quantize_delta import quantize_delta

D1 = torch.tensor([[1.0, -2, 3, -4], [5, 6, -7, 8]])


def test_two_bits_are_minus_one_zero_and_one():
    assert torch.equal(quantize_delta([D1], bits=2), torch.tensor([[0.0, 0, 4, -4], [8, 8, -8, 8]]))


def test_a_half_goes_to_the_even_side():
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 3.0])
    assert torch.equal(quantize_delta([x], bits=3), torch.tensor([0.0, 2, 2, 0, -2, -2, 3]))


def test_a_tensor_has_one_step_and_rows_have_their_own():
    x = torch.tensor([[1.0, 0.4], [100, 40]])
    assert torch.equal(
        quantize_delta([x], bits=2, per="tensor"), torch.tensor([[0.0, 0], [100, 0]])
    )
    assert torch.equal(quantize_delta([x], bits=2, per="row"), torch.tensor([[1.0, 0], [100, 0]]))


@settings(max_examples=20)
@given(bits=st.integers(2, 16), seed=st.integers(0, 2**32), per=st.sampled_from(["tensor", "row"]))
def test_the_largest_stays_and_none_moves_by_more_than_half_a_step(bits, seed, per):
    x = torch.randn(4, 9, generator=torch.Generator().manual_seed(seed))
    edited = quantize_delta([x], bits=bits, per=per)
    step = x.abs().amax() / (2 ** (bits - 1) - 1)
    assert float((edited - x).abs().max()) <= float(step) / 2 * (1 + 1e-6)
    assert edited.abs().max() == x.abs().max()
    assert len(edited.unique()) <= (2**bits - 1) * (1 if per == "tensor" else 4)


def test_zeros_stay_zeros_beside_other_rows():
    x = torch.tensor([[0.0, 0.0], [1.0, -2.0]])
    assert torch.equal(quantize_delta([x], bits=16)[0], torch.zeros(2))
    assert not quantize_delta([torch.zeros(3)]).any()


def test_blocks_are_not_seen():
    x = torch.randn(2, (1 << 17) + 3, generator=torch.Generator().manual_seed(0))
    whole = quantize_delta([x], bits=4)
    assert torch.equal(whole, torch.stack([quantize_delta([row], bits=4) for row in x]))


@pytest.mark.parametrize("per", ["tensor", "row"])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 3), (3, 0)])
def test_odd_shapes_keep_their_shape(shape, per):
    assert torch.equal(quantize_delta([torch.ones(shape)], per=per), torch.ones(shape))

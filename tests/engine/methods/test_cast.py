"""A cast hands the model on, bit by bit."""

import pytest
import torch

from engine.methods.cast import cast


def test_every_bit_stays():
    odd = torch.tensor([0.0, -0.0, 1e-45, -3.4e38, 1 / 3])
    copy = cast([odd])
    assert torch.equal(copy.view(torch.int32), odd.view(torch.int32))
    assert copy.data_ptr() != odd.data_ptr()


def test_a_transposed_tensor_becomes_a_plain_one():
    x = torch.arange(6.0).reshape(2, 3).T
    assert torch.equal(cast([x]), x)
    assert cast([x]).is_contiguous()


def test_what_fits_the_other_dtype_comes_back_unharmed():
    x = torch.tensor([1.0, -2.5, 384.0])
    assert torch.equal(cast([x]).bfloat16().float(), x)


def test_a_cast_is_an_edit_of_one_model_without_parameters_or_base():
    method = cast.declared
    assert (method.makes, method.n_models, method.parameters) == ("edit", (1, 1), ())
    assert method.base == "none"


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 3)])
def test_odd_shapes_keep_their_shape(shape):
    assert torch.equal(cast([torch.ones(shape)]), torch.ones(shape))

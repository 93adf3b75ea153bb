"""Passthrough, by hand."""

import pytest
import torch

from engine.methods.passthrough import passthrough

MODEL = torch.tensor([[0.1, -0.0, 1e-45], [-3e38, 7.0, 0.0]])


def test_scale_one_gives_the_same_bytes():
    result = passthrough([MODEL])
    assert torch.equal(result.view(torch.int32), MODEL.view(torch.int32))
    assert result.data_ptr() != MODEL.data_ptr()


def test_bfloat16_survives_the_way_through_float32():
    model = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(torch.bfloat16)
    model = model[model.isfinite()]
    result = passthrough([model.float()]).bfloat16()
    assert torch.equal(result.view(torch.int16), model.view(torch.int16))


def test_scale_multiplies_every_entry():
    assert passthrough([torch.tensor([1.0, -2.0])], scale=-0.5).tolist() == [-0.5, 1.0]


def test_scale_zero_silences():
    assert torch.equal(passthrough([MODEL], scale=0.0), torch.zeros(2, 3))


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 0)])
def test_odd_shapes_keep_their_shape(shape):
    assert torch.equal(passthrough([torch.ones(shape)]), torch.ones(shape))

"""ExPO, by hand."""

import pytest
import torch

from engine.method import Parameter
from engine.methods.expo import expo
from registry.errors import BadParameter

D1 = torch.tensor([[1.0, -2, 3, -4], [5, 6, -7, 8]])


def test_half_a_task_vector_further():
    assert torch.equal(
        expo([D1], alpha=0.5), torch.tensor([[1.5, -3, 4.5, -6], [7.5, 9, -10.5, 12]])
    )


def test_alpha_zero_gives_the_model_and_minus_one_the_base():
    assert torch.equal(expo([D1], alpha=0.0), D1)
    assert not expo([D1], alpha=-1.0).any()


def test_negative_alpha_goes_back():
    assert torch.equal(expo([D1], alpha=-0.75), D1 / 4)


def test_steps_that_bfloat16_would_lose_are_taken():
    base, model = torch.tensor([1.0]), torch.tensor([1.0 + 2**-12])
    in_bfloat16 = model.bfloat16() + 0.5 * (model.bfloat16() - base.bfloat16())
    assert in_bfloat16 == 1
    assert base + expo([model - base], alpha=0.5) == 1 + 1.5 * 2**-12


def test_nobody_goes_back_beyond_the_base():
    (alpha,) = expo.declared.parameters
    assert isinstance(alpha, Parameter)
    assert alpha.check(-1) == -1
    with pytest.raises(BadParameter, match="alpha"):
        alpha.check(-1.01)


def test_extrapolation_is_an_edit_of_one_model():
    assert expo.declared.makes == "edit"
    assert expo.declared.n_models == (1, 1)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 3)])
def test_odd_shapes_keep_their_shape(shape):
    assert torch.equal(expo([torch.ones(shape)], alpha=1.0), torch.full(shape, 2.0))

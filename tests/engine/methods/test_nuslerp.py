"""NuSLERP, by hand."""

import math

import pytest
import torch

from engine.methods.nuslerp import nuslerp
from engine.methods.slerp import slerp

W0 = torch.tensor([[4.0, -4, 8, 0], [2, 6, -8, 16]])
W1 = W0 + torch.tensor([[1.0, -2, 3, -4], [5, 6, -7, 8]])
W2 = W0 + torch.tensor([[2.0, 1, -6, -1], [-3, 4, 7, 5]])
A, B = torch.tensor([[1.0, 0], [0, 1]]), torch.tensor([[0.0, 1], [0, 2]])
EAST, NORTH = torch.tensor([1.0, 0]), torch.tensor([0.0, 1])


def close(result, expected):
    torch.testing.assert_close(result, torch.tensor(expected), rtol=0, atol=5e-6)


def random(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_one_angle_for_the_tensor():
    close(nuslerp([A, B], weight=[3, 1]), [[0.796171, 0.283647], [0, 1.363465]])


def test_one_angle_for_each_vector_along_the_last_axis():
    close(nuslerp([A, B], weight=[3, 1], nuslerp_flatten=False), [[0.923880, 0.382683], [0, 1.25]])


def test_row_wise_is_one_angle_for_each_vector_along_the_first_axis():
    sideways = nuslerp([A, B], weight=[3, 1], nuslerp_flatten=False, nuslerp_row_wise=True)
    upright = nuslerp([A.T, B.T], weight=[3, 1], nuslerp_flatten=False).T
    torch.testing.assert_close(sideways, upright)
    close(sideways, [[0.75, 0.258607], [0, 1.279199]])


def test_zero_vectors_at_a_right_angle_are_mergekits():
    parameters = {"nuslerp_flatten": False, "nuslerp_row_wise": True, "zero": "orthogonal"}
    close(nuslerp([A, B], weight=[3, 1], **parameters), [[0.923880, 0.258607], [0, 1.279199]])
    close(nuslerp([torch.zeros(2), torch.ones(2)]), [0.5, 0.5])
    close(nuslerp([torch.zeros(2), torch.ones(2)], zero="orthogonal"), [0.707107, 0.707107])


def test_lengths_below_1e_7_are_taken_for_it_only_as_in_mergekit():
    short = [torch.tensor([1e-8, 0]), torch.tensor([1e-8, 1e-8])]
    torch.testing.assert_close(
        nuslerp(short, zero="orthogonal"),
        torch.tensor([1.407195e-8, 7.035976e-9]),
        rtol=1e-5,
        atol=0,
    )
    torch.testing.assert_close(nuslerp(short) * 1e8, nuslerp([x * 1e8 for x in short]))


def test_where_angles_are_ordinary_it_is_slerp_with_weights_for_t():
    torch.testing.assert_close(nuslerp([W1, W2], weight=[0.6, 1.4]), slerp([W1, W2], t=0.7))


def test_a_base_is_the_centre():
    for parameters in (
        {},
        {"nuslerp_flatten": False},
        {"nuslerp_flatten": False, "nuslerp_row_wise": True},
    ):
        delta = nuslerp([W1 - W0, W2 - W0], weight=[1, 3], **parameters)
        merged = nuslerp([W1, W2], base=W0, weight=[1, 3], **parameters)
        torch.testing.assert_close(merged, W0 + delta)
        zeros = torch.zeros(2, 4)
        assert torch.equal(
            nuslerp([W1, W2], **parameters), nuslerp([W1, W2], base=zeros, **parameters)
        )


def test_a_weight_of_zero_gives_the_other_model():
    for parameters in ({}, {"nuslerp_flatten": False}):
        assert torch.equal(nuslerp([W1, W2], weight=[2, 0], **parameters), W1)
        assert torch.equal(nuslerp([W1, W2], weight=[0, 2], base=W0, **parameters), W2)


def test_weights_that_sum_to_zero_count_as_equal():
    assert torch.equal(nuslerp([W1, W2], weight=[1, -1]), nuslerp([W1, W2]))
    assert torch.equal(nuslerp([W1, W2], weight=0.0), nuslerp([W1, W2]))


def test_a_negative_weight_goes_beyond_the_other_model():
    close(nuslerp([EAST, NORTH], weight=[2, -1]), [0.0, -1.0])


def test_parallel_and_opposite_vectors_are_interpolated_linearly():
    vector = torch.tensor([2.0, -1])
    close(nuslerp([vector, 2 * vector]), [3.0, -1.5])
    close(nuslerp([vector, -2 * vector], weight=[3, 1]), [0.5, -0.25])
    close(
        nuslerp([vector[None], -2 * vector[None]], weight=[3, 1], nuslerp_flatten=False),
        [[0.5, -0.25]],
    )


@pytest.mark.parametrize("shape", [(70, 3000), (3000, 70), (40_000, 1), (1, 40_000), (6, 5, 4)])
def test_every_vector_of_a_large_tensor_has_its_own_angle(shape):
    x, y, base = (random(*shape, seed=s) for s in range(3))
    for row_wise in (False, True):
        axis = 0 if row_wise else -1
        merged = nuslerp(
            [x, y], base=base, weight=[1, 2], nuslerp_flatten=False, nuslerp_row_wise=row_wise
        )
        u, v, w = (z.movedim(axis, -1).flatten(0, -2) for z in (x, y, base))
        for place in {0, len(u) // 2, len(u) - 1}:
            own = nuslerp([u[place], v[place]], base=w[place], weight=[1, 2])
            torch.testing.assert_close(merged.movedim(axis, -1).flatten(0, -2)[place], own)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 3), (3, 0), (1, 1)])
@pytest.mark.parametrize("flatten", [False, True])
def test_odd_shapes_keep_their_shape(shape, flatten):
    models = [torch.ones(shape), torch.full(shape, 3.0)]
    result = nuslerp(models, nuslerp_flatten=flatten)
    torch.testing.assert_close(result, torch.full(shape, 2.0))
    assert math.prod(result.shape) == math.prod(shape)

"""Slerp, by hand on the fixture of two models."""

import math

import pytest
import torch

from engine.methods.slerp import slerp

W0 = torch.tensor([[4.0, -4, 8, 0], [2, 6, -8, 16]])
W1 = W0 + torch.tensor([[1.0, -2, 3, -4], [5, 6, -7, 8]])
W2 = W0 + torch.tensor([[2.0, 1, -6, -1], [-3, 4, 7, 5]])
EAST, NORTH = torch.tensor([1.0, 0]), torch.tensor([0.0, 1])


def close(result, expected):
    torch.testing.assert_close(result, torch.tensor(expected), rtol=0, atol=5e-6)


def test_halfway_between_two_matrices():
    close(
        slerp([W1, W2]),
        [[5.734568, -4.691919, 6.777216, -2.606622], [3.127946, 11.469135, -8.341189, 23.459595]],
    )


def test_halfway_between_two_vectors():
    close(slerp([torch.tensor([3.0, 0]), torch.tensor([-3.0, 4])]), [0, 4.472136])


def test_unit_vectors_walk_on_the_circle():
    for t in (0.0, 0.25, 1 / 3, 1.0):
        close(slerp([EAST, NORTH], t=t), [math.cos(t * math.pi / 2), math.sin(t * math.pi / 2)])


def test_ends_are_the_models_bit_for_bit():
    assert torch.equal(slerp([W1, W2], t=0.0), W1)
    assert torch.equal(slerp([W1, W2], t=1.0), W2)


def test_changing_places_is_walking_back():
    torch.testing.assert_close(slerp([W1, W2], t=0.3), slerp([W2, W1], t=0.7))


def test_parallel_tensors_are_interpolated_linearly():
    close(slerp([EAST, 3 * EAST], t=0.25), [1.5, 0])
    assert torch.equal(slerp([W1, W1]), W1)


def test_opposite_tensors_are_interpolated_linearly():
    close(slerp([EAST, -EAST], t=0.25), [0.5, 0])


def test_threshold_of_straightness_is_a_cosine_of_09995():
    def at_angle(cosine):
        return slerp([EAST, torch.tensor([cosine, math.sqrt(1 - cosine**2)])])

    assert float(torch.linalg.vector_norm(at_angle(0.9994))) == pytest.approx(1, abs=1e-6)
    assert float(torch.linalg.vector_norm(at_angle(0.9996))) < 0.99995


def test_zero_tensor_is_interpolated_linearly():
    close(slerp([torch.zeros(2), torch.ones(2)], t=0.25), [0.25, 0.25])
    close(slerp([torch.ones(2), torch.zeros(2)], t=0.25), [0.75, 0.75])
    close(slerp([torch.zeros(2), torch.zeros(2)]), [0.0, 0.0])


def test_zero_tensor_can_be_at_a_right_angle_to_everything():
    close(slerp([torch.zeros(2), torch.ones(2)], t=1 / 3, zero="orthogonal"), [0.5, 0.5])
    close(slerp([torch.ones(2), torch.zeros(2)], t=1 / 3, zero="orthogonal"), [0.866025, 0.866025])
    close(slerp([torch.zeros(2), torch.zeros(2)], zero="orthogonal"), [0.0, 0.0])
    assert torch.equal(slerp([W1, W2], zero="orthogonal"), slerp([W1, W2]))


def test_short_tensor_has_a_direction_unless_it_is_mergekits_zero():
    short = 1e-9 * EAST
    close(slerp([short, EAST]), [0.5, 0])
    close(slerp([short, EAST], zero="orthogonal"), [0.707107, 0])


def test_lengths_too_small_or_large_for_float32_squares_have_an_angle():
    for size in (1e-30, 1e30):
        torch.testing.assert_close(slerp([size * EAST, size * NORTH]) / size, slerp([EAST, NORTH]))


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 3)])
def test_odd_shapes_keep_their_shape(shape):
    assert torch.equal(slerp([torch.ones(shape), torch.full(shape, 3.0)]), torch.full(shape, 2.0))

"""Karcher mean, by hand."""

import math

import pytest
import torch

from engine.methods.karcher import karcher

EAST, NORTH = torch.tensor([1.0, 0]), torch.tensor([0.0, 1])


def close(result, expected):
    torch.testing.assert_close(result, torch.tensor(expected), rtol=0, atol=2e-6)


def at(degrees):
    return torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])


def random(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_two_models_meet_halfway():
    close(karcher([2 * EAST, NORTH]), [1.5 * math.sqrt(0.5), 1.5 * math.sqrt(0.5)])


def test_axes_meet_in_the_middle_at_the_mean_length():
    close(karcher([(i + 1) * torch.eye(3)[i] for i in range(3)]), [2 / math.sqrt(3)] * 3)


def test_on_a_circle_it_is_the_mean_of_the_angles():
    mean = karcher([at(0), at(10), at(80)])
    torch.testing.assert_close(mean, at(30), rtol=0, atol=2e-6)


def test_without_steps_it_is_the_mean_of_the_directions():
    plain = at(0) + at(10) + at(80)
    torch.testing.assert_close(
        karcher([at(0), at(10), at(80)], max_iter=0), plain / torch.linalg.vector_norm(plain)
    )
    torch.testing.assert_close(
        karcher([at(0), at(10), at(80)], tol=0.5), karcher([at(0), at(10), at(80)], max_iter=0)
    )


def test_pulls_along_the_arcs_cancel_out_at_the_mean():
    models = [random(50, seed=s) + 1 for s in range(4)]
    mean = karcher(models, max_iter=100, tol=0.0).double()
    mean /= torch.linalg.vector_norm(mean)
    pull = torch.zeros_like(mean)
    for model in models:
        unit = model.double() / torch.linalg.vector_norm(model.double())
        cosine = mean @ unit
        pull += torch.acos(cosine) * (unit - cosine * mean) / torch.sqrt(1 - cosine**2)
    assert float(torch.linalg.vector_norm(pull)) < 1e-6


def test_opposite_models_keep_the_direction_of_the_first():
    close(karcher([EAST, -3 * EAST]), [2.0, 0.0])
    close(karcher([-3 * EAST, EAST]), [-2.0, 0.0])


@pytest.mark.parametrize("tol", [0.0, 1e-5])
def test_a_model_opposite_to_the_mean_pulls_nowhere(tol):
    model = torch.tensor([1.0, 2, 3])
    torch.testing.assert_close(karcher([model, model, -model], tol=tol), model)
    torch.testing.assert_close(karcher([model, -model, 2 * model], tol=tol), model * (4 / 3))


def test_nearly_opposite_models_give_a_finite_result_of_the_mean_length():
    for angle in (179.0, 179.99, 179.9999):
        for models in ([at(0), at(angle)], [at(0), at(0), at(angle)]):
            length = torch.linalg.vector_norm(karcher(models))
            assert float(length) == pytest.approx(1, abs=1e-5)


def test_a_zero_tensor_has_a_length_but_no_direction():
    close(karcher([torch.zeros(2), 4 * NORTH]), [0.0, 2.0])
    close(karcher([torch.zeros(2), torch.zeros(2)]), [0.0, 0.0])


def test_a_short_tensor_has_a_direction_unless_tol_is_on_norms():
    short = 1e-6 * EAST
    close(karcher([short, 4 * NORTH]), [math.sqrt(2), math.sqrt(2)])
    close(karcher([short, 4 * NORTH], tol_on_norms=True), [0.0, 2.0])
    close(karcher([short, 4 * NORTH], tol_on_norms=True, tol=1e-7), [math.sqrt(2), math.sqrt(2)])
    assert karcher([short, short], tol_on_norms=True).tolist() == [0, 0]
    torch.testing.assert_close(karcher([short, short]), short)


def test_one_model_is_given_back():
    model = random(3, 7, seed=0)
    assert torch.equal(karcher([model]), model)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_lengths_that_float32_cannot_square(size):
    close(karcher([size * EAST, size * NORTH]) / size, [math.sqrt(0.5), math.sqrt(0.5)])


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 3)])
def test_odd_shapes_keep_their_shape(shape):
    models = [torch.ones(shape), torch.full(shape, 3.0)]
    torch.testing.assert_close(karcher(models), torch.full(shape, 2.0))

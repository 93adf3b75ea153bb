"""WIDEN, by hand on the fixture of two models, with the numbers of the authors' code."""

import pytest
import torch

from engine.disentangling import changes as changes_of
from engine.methods.widen import widen
from engine.products import column_dots

W0 = torch.tensor([[4.0, -4, 8, 0], [2, 6, -8, 16]])
D1 = torch.tensor([[1.0, -2, 3, -4], [5, 6, -7, 8]])
D2 = torch.tensor([[2.0, 1, -6, -1], [-3, 4, 7, 5]])
B0, E1, E2 = torch.tensor([1.0, 1]), torch.tensor([2.0, -1]), torch.tensor([-4.0, 3])
NAME = "model.layers.0.mlp.up_proj.weight"


def matrix(deltas=(D1, D2), base=W0, tensor=NAME, **parameters):
    return widen(list(deltas), base=base, tensor=tensor, **parameters)


def vector(**parameters):
    return widen([E1, E2], base=B0, tensor="model.norm.weight", **parameters)


def close(result, expected):
    torch.testing.assert_close(result, torch.tensor(expected), rtol=0, atol=5e-6)


def test_matrix_and_vector_with_the_defaults():
    close(
        matrix(),
        [[2.25, -0.406735, -3.843265, -4.688770], [1.5, 4.937823, 1.967618, 11.443851]],
    )
    close(vector(), [-2, 2.523188])


def test_matrix_and_vector_with_a_smaller_calibrated_score():
    close(
        matrix(score_calibration_value=0.5),
        [[1.5, -0.406735, -1.593265, -2.438770], [1, 4.937823, 0.217618, 6.193851]],
    )
    close(vector(score_calibration_value=0.5), [-1, 2.523188])


def test_matrix_and_vector_with_a_higher_bar():
    close(
        matrix(above_average_value_ratio=2.0),
        [[1.5, -0.406735, -2.059589, -2.776954], [1, 4.937823, 0.870471, 6.776955]],
    )
    close(vector(above_average_value_ratio=2.0), [-3.284782, 2.523188])


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "transformer.wte.weight"])
def test_columns_of_an_input_embedding_are_its_tokens(name):
    turned = matrix([D1.T.contiguous(), D2.T.contiguous()], W0.T.contiguous(), name)
    assert torch.equal(turned.T, matrix())


def test_columns_of_the_output_head_are_not_its_tokens():
    assert torch.equal(matrix(tensor="lm_head.weight"), matrix())


def test_tensors_of_more_dimensions_are_matrices():
    cubes = [x.reshape(2, 2, 2) for x in (D1, D2)]
    assert torch.equal(matrix(cubes, W0.reshape(2, 2, 2)), matrix().reshape(2, 2, 2))


def test_a_column_that_is_zero_in_the_base_ranks_first():
    base = torch.tensor([[0.0, 1, 1], [0, 1, 1]])
    delta = torch.tensor([[0.01, 1, -1], [0.01, 0, 0.5]])
    merged = matrix([delta, torch.zeros(2, 3)], base)
    # its magnitude changed least, which is shared by two models; its direction most, which scores 1
    torch.testing.assert_close(merged[:, 0], delta[:, 0] * (0.5 + 1) / 2)


def test_zero_columns_leave_the_result_finite():
    base = torch.zeros(3, 4)
    assert matrix([torch.zeros(3, 4)] * 2, base).tolist() == torch.zeros(3, 4).tolist()
    assert matrix([-torch.ones(3, 4), torch.ones(3, 4)], torch.ones(3, 4)).isfinite().all()


def changes(base, delta):
    """How far the columns of one model moved."""
    return changes_of(torch.stack(column_dots([base, delta], [(0, 0), (0, 1), (1, 1)])))


def test_equal_changes_rank_by_their_place():
    ones = torch.ones(2, 4)
    merged = matrix([ones, ones], torch.ones(2, 4))
    low, high = 0.5, 1.0  # ranks 0 and 1/4 share evenly; ranks 2/4 and 3/4 are above average
    assert merged[0].tolist() == [2 * low, 2 * low, 2 * high, 2 * high]


def test_stretching_a_column_changes_no_direction():
    base = torch.randn(3, 200, generator=torch.Generator().manual_seed(0))
    factors = torch.rand(200, generator=torch.Generator().manual_seed(1))
    magnitude, direction = changes(base, base * factors)
    assert torch.equal(direction, torch.zeros(1, 200, dtype=torch.float64))
    lengths = torch.linalg.vector_norm(base.double(), dim=0)
    torch.testing.assert_close(magnitude[0], lengths * factors, rtol=1e-6, atol=0)


def test_turning_a_column_around_is_the_largest_change_of_direction():
    base = torch.randn(3, 200, generator=torch.Generator().manual_seed(0))
    _, direction = changes(base, -3 * base)
    torch.testing.assert_close(direction, torch.full((1, 200), 2.0, dtype=torch.float64))


def test_tiny_changes_of_direction_still_have_an_order():
    base = torch.tensor([[100.0, 100, 100], [0, 0, 0]])
    turns = torch.tensor([[0.0, 0, 0], [3e-6, 1e-6, 2e-6]])
    stretches = torch.tensor([[3e-3, 1e-3, 2e-3], [0, 0, 0]])
    merged = matrix([turns, stretches], base, score_calibration_value=0.0)
    # column 0 turned most: above average, score 0 by direction and by magnitude
    assert merged[1, 0] == 0
    assert merged[1, 1] > 0


def test_important_columns_of_several_models_add_up():
    big = torch.tensor([[0.0, 5], [0, -5]])
    merged = matrix([big, big], torch.ones(2, 2))
    assert torch.equal(merged, 2 * big)


def test_one_model_is_given_back():
    assert torch.equal(matrix([D1]), D1)
    assert torch.equal(matrix([D1], tensor="model.embed_tokens.weight"), D1)
    assert torch.equal(widen([E1], base=B0, tensor="model.norm.weight"), E1)


def test_a_single_number_is_shared_by_its_changes():
    merged = widen([torch.tensor(2.0), torch.tensor(2.0)], base=torch.tensor(1.0), tensor="scale")
    assert float(merged) == 2.0


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (0, 2, 2)])
def test_empty_tensors_stay_empty(shape):
    empty = torch.zeros(shape)
    assert widen([empty, empty], base=empty, tensor=NAME).shape == shape


def test_zero_task_vectors_change_nothing():
    assert torch.equal(matrix([torch.zeros(2, 4)] * 2), torch.zeros(2, 4))

"""RegMean, by hand and against least squares."""

import pytest
import torch
from reference.regmean import regmean as twin

from engine.methods.regmean import regmean
from registry.errors import BadParameter

W1, W2 = torch.eye(2), torch.tensor([[3.0, 1.0], [1.0, 2.0]])
G1, G2 = torch.tensor([[1.0, 0.5], [0.5, 0.5]]), torch.tensor([[0.5, 1.0], [1.0, 2.5]])


def merged(weights, statistics, **parameters):
    return regmean(weights, tensor="w", statistics=statistics, **parameters)


def randoms(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("gamma", "expected"),
    [
        (1.0, [[2 / 3, 5 / 3], [-1 / 3, 7 / 3]]),
        (0.5, [[1.476190, 1.047619], [0.190476, 1.952381]]),
    ],
)
def test_two_linear_layers_and_their_inputs(gamma, expected):
    result = merged([W1, W2], [G1, G2], gamma=gamma)
    torch.testing.assert_close(result, torch.tensor(expected), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.9, 1.0])
def test_it_is_the_regression_of_the_paper(gamma):
    weights = [randoms(7, 5, seed=i) for i in range(3)]
    inputs = [randoms(40, 5, seed=10 + i) for i in range(3)]
    grams = [x.T @ x for x in inputs]
    expected = twin(
        [w.double().numpy() for w in weights],
        tensor="w",
        statistics=[g.double().numpy() for g in grams],
        gamma=gamma,
    )
    result = merged(weights, grams, gamma=gamma)
    torch.testing.assert_close(result, torch.from_numpy(expected).float(), rtol=1e-5, atol=1e-6)


def test_with_gamma_one_no_matrix_is_nearer_to_the_outputs_of_all():
    weights = [randoms(3, 4, seed=i) for i in range(2)]
    inputs = [randoms(30, 4, seed=5 + i) for i in range(2)]
    outputs = torch.cat([x @ w.T for x, w in zip(inputs, weights, strict=True)])
    best = torch.linalg.lstsq(torch.cat(inputs), outputs).solution.T
    result = merged(weights, [x.T @ x for x in inputs], gamma=1.0)
    torch.testing.assert_close(result, best, rtol=1e-4, atol=1e-5)


def test_wide_grams_are_read_in_strips():
    weights = [randoms(2, 1030, seed=i) for i in range(2)]
    diagonals = [randoms(1030, seed=5 + i).square() + 0.1 for i in range(2)]
    expected = sum(w * d for w, d in zip(weights, diagonals, strict=True)) / sum(diagonals)
    result = merged(weights, [d.diag() for d in diagonals])
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)


def test_directions_without_inputs_keep_the_mean():
    only_first = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    result = merged([W1, W2], [only_first, 3 * only_first], gamma=1.0)
    expected = torch.tensor([[2.5, 0.5], [0.75, 1.5]])
    torch.testing.assert_close(result, expected)
    assert torch.equal(merged([W1, W2], [torch.zeros(2, 2)] * 2), (W1 + W2) / 2)


def test_singular_grams_give_a_finite_result_that_fits_the_inputs():
    x = torch.tensor([[1.0, 1.0]])
    result = merged([W1, W2], [x.T @ x] * 2, gamma=1.0)
    torch.testing.assert_close(result @ x.T, (W1 + W2) / 2 @ x.T)


def test_equal_grams_and_copies_give_what_they_must():
    torch.testing.assert_close(merged([W1, W2], [G1, G1]), (W1 + W2) / 2)
    torch.testing.assert_close(merged([W2, W2], [G1, G2]), W2)


@pytest.mark.parametrize("shape", [(3, 3), (2,), (2, 3)])
def test_grams_of_another_shape_are_none(shape):
    assert torch.equal(merged([W1, W2], [G1, torch.ones(shape)]), (W1 + W2) / 2)


def test_vectors_and_tensors_without_grams_are_averaged():
    assert torch.equal(merged([W1[0], W2[0]], [G1, G2]), (W1[0] + W2[0]) / 2)
    assert torch.equal(merged([W1, W2], None), (W1 + W2) / 2)


@pytest.mark.parametrize("gram", [-torch.eye(2) + 3 * torch.ones(2, 2), G1 * torch.nan])
def test_what_is_no_gram_is_named(gram):
    with pytest.raises(BadParameter, match="Gram matrices of w"):
        merged([W1, W2], [gram, gram], gamma=1.0)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 3), (3, 0)])
def test_odd_shapes_keep_their_shape(shape):
    ones = torch.ones(shape)
    grams = [torch.eye(shape[1] if len(shape) == 2 else 1)] * 2
    assert torch.equal(merged([ones, 3 * ones], grams), 2 * ones)

"""Fisher merging, by hand."""

import pytest
import torch

from engine.draws import Draws
from engine.method import Seen
from engine.methods.fisher import fisher, survey

W1, W2 = torch.eye(2), torch.tensor([[3.0, 1.0], [1.0, 2.0]])
F1, F2 = torch.tensor([[1.0, 0.0], [3.0, 0.0]]), torch.tensor([[3.0, 0.0], [1.0, 4.0]])


def merged(weights, statistics, whole=None, **parameters):
    return fisher(weights, statistics=statistics, whole=whole, **parameters)


def looked(tensors):
    """A look at tensors of the given statistics."""

    def look(measure, *, sample=0):
        for name, statistics in sorted(tensors.items()):
            seen = Seen(name, [W1, W2], None, Draws(0, name, ("a", "b")), statistics)
            yield name, measure(seen)

    return look


def test_entries_are_weighted_by_information():
    expected = torch.tensor([[2.5, 0.5], [0.25, 2.0]])
    torch.testing.assert_close(merged([W1, W2], [F1, F2]), expected, rtol=0, atol=2e-6)


def test_models_may_count_differently():
    expected = (3 * 1 + 1 * 3 * 3) / (3 * 1 + 1 * 3)  # entry [0, 0]
    assert float(merged([W1, W2], [F1, F2], weight=[3.0, 1.0])[0, 0]) == pytest.approx(expected)


def test_without_any_information_the_mean_is_taken():
    assert torch.equal(merged([W1, W2], [torch.zeros(2, 2)] * 2), (W1 + W2) / 2)
    assert torch.equal(merged([W1, W2], None), (W1 + W2) / 2)
    assert torch.equal(merged([W1, W2], None, weight=[1.0, 3.0]), (W1 + 3 * W2) / 4)


def test_a_large_epsilon_levels_the_information():
    assert torch.allclose(merged([W1, W2], [F1, F2], epsilon=1e6), (W1 + W2) / 2, atol=1e-5)


def test_norms_are_those_of_the_whole_model():
    tensors = {"a": [F1, F2], "b": [F1 * 2, F2], "without": None}
    first, second = (5 * 10) ** 0.5, (2 * 26) ** 0.5
    assert survey(looked(tensors), normalize_fisher=True) == pytest.approx([first, second])


def test_nothing_is_looked_at_without_normalization_or_without_statistics():
    assert survey(looked({"a": [F1, F2]}), normalize_fisher=False) is None
    assert survey(looked({"a": None}), normalize_fisher=True) is None


def test_a_model_of_larger_gradients_does_not_count_more_when_normalized():
    both = [F1 + 1, 1000 * (F1 + 1)]
    norms = survey(looked({"a": both}), normalize_fisher=True)
    result = merged([W1, W2], both, norms, normalize_fisher=True)
    torch.testing.assert_close(result, (W1 + W2) / 2, rtol=1e-5, atol=1e-5)
    assert float(merged([W1, W2], both)[0, 0]) > 2.9


def test_normalized_information_gives_the_numbers_of_mergelm():
    tensors = {
        "bias": [
            torch.tensor([0.0111263790, 0.0111263790]),
            torch.tensor([0.0582779111, 0.0582779111]),
        ],
        "weight": [
            torch.tensor([[0.0111263790, 0.0], [0.0111263790, 0.0]]),
            torch.tensor([[0.0184760218, 0.1423814868], [0.0184760218, 0.1423814868]]),
        ],
    }
    norms = survey(looked(tensors), normalize_fisher=True)
    result = merged([W1, W2], tensors["weight"], norms, normalize_fisher=True)
    expected = torch.tensor([[1.288590, 0.999931], [0.144295, 1.999931]])
    torch.testing.assert_close(result, expected, rtol=0, atol=2e-6)
    biases = [torch.zeros(2), torch.tensor([1.0, -1.0])]
    result = merged(biases, tensors["bias"], norms, normalize_fisher=True)
    torch.testing.assert_close(result, torch.tensor([0.347204, -0.347204]), rtol=0, atol=2e-6)


def test_infinite_information_is_the_largest_and_decides():
    infinite = torch.full((2, 2), torch.inf)
    torch.testing.assert_close(merged([W1, W2], [F1, infinite]), W2)
    assert torch.equal(merged([W1, W2], [infinite, infinite]), (W1 + W2) / 2)


def test_one_model_is_given_back():
    x = torch.tensor([0.1, -1 / 3, 1e-45, 3e38])
    assert torch.equal(merged([x], [torch.rand(4)]), x)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 3)])
def test_odd_shapes_keep_their_shape(shape):
    ones = torch.ones(shape)
    assert torch.equal(merged([ones, 3 * ones], [ones, ones]), 2 * ones)

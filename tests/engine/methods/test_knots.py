"""KnOTS: the shared basis changes nothing of a sum, and gives signs a meaning for low ranks."""

import torch

from engine.methods.knots import knots
from engine.methods.task_arithmetic import task_arithmetic

UP, EMBED = "model.layers.0.mlp.up_proj.weight", "model.embed_tokens.weight"


def matrix(seed, shape=(6, 4)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_a_sum_is_the_sum():
    models = [matrix(0), matrix(1)]
    merged = knots(models, tensor=UP, inner="task_arithmetic", weight=[0.5, 2.0], lambda_=0.7)
    expected = task_arithmetic(models, weight=[0.5, 2.0], lambda_=0.7)
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-5)


def test_low_ranks_stay_low():
    models = [torch.outer(matrix(i, (6,)), matrix(i + 9, (4,))) for i in range(2)]
    merged = knots(models, tensor=UP, density=0.5)
    assert int((torch.linalg.svdvals(merged) > 1e-5).sum()) <= 2


def test_vectors_are_merged_as_they_are():
    assert knots([torch.tensor([3.0, 1]), torch.tensor([-1.0, 1])], tensor=UP).tolist() == [3, 1]

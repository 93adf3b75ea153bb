"""WUDI: the closed form is the minimum that the paper's optimiser walks to."""

import torch

from engine.methods.wudi import wudi

UP, EMBED = "model.layers.0.mlp.up_proj.weight", "model.embed_tokens.weight"


def matrix(seed, shape=(6, 4)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def interference(merged, models):
    return sum(((merged - m) @ m.T).square().sum() / m.square().sum() for m in models)


def test_no_step_away_from_it_is_better():
    models = [matrix(i) for i in range(3)]
    best = wudi(models, tensor=UP)
    least = float(interference(best, models))
    for seed in range(20):
        other = best + 0.01 * matrix(100 + seed)
        assert float(interference(other, models)) > least
    assert float(interference(sum(models), models)) > least


def test_a_model_that_changed_nothing_takes_no_part():
    torch.testing.assert_close(
        wudi([matrix(0), torch.zeros(6, 4)], tensor=UP), matrix(0), rtol=1e-4, atol=1e-4
    )
    assert not wudi([torch.zeros(6, 4)] * 2, tensor=UP).any()

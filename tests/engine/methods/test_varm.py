"""VaRM: weights of matrices, layers and models."""

import torch

from engine.draws import Draws
from engine.method import Seen
from engine.methods.varm import measure, varm

D1 = torch.tensor([[1.0, -2, 3, -4], [5, 6, -7, 8]])
D2 = torch.tensor([[2.0, 1, -6, -1], [-3, 4, 7, 5]])


def looking(models):
    """A look at models given as name → tensor."""

    def look(measure, *, sample=0):
        for name in sorted(models[0]):
            seen = Seen(name, [m[name] for m in models], None, Draws(0, name, ("a",)))
            yield name, measure(seen)

    return look


UP, DOWN, NORM = (
    "model.layers.0.mlp.up.weight",
    "model.layers.0.mlp.down.weight",
    "model.norm.weight",
)


def merged(models, granularity):
    whole = measure(looking(models), granularity=granularity)
    return {
        name: varm([m[name] for m in models], tensor=name, whole=whole, granularity=granularity)
        for name in models[0]
    }


def test_the_weights_are_shares_of_mean_squares():
    models = [
        {UP: D1, DOWN: torch.zeros(1), NORM: torch.ones(1)},
        {UP: D2, DOWN: torch.ones(1), NORM: torch.ones(1)},
    ]
    a, b = float(D1.square().sum()), float(D2.square().sum())
    matrix, layer, model = (merged(models, g) for g in ("matrix", "layer", "model"))
    torch.testing.assert_close(matrix[UP], (a * D1 + b * D2) / (a + b))
    assert matrix[DOWN].tolist() == [1]
    torch.testing.assert_close(layer[DOWN], torch.tensor([(b + 1) / (a + b + 1)]))
    torch.testing.assert_close(layer[NORM], torch.ones(1))
    torch.testing.assert_close(model[DOWN], torch.tensor([(b + 2) / (a + b + 3)]))


def test_models_that_did_not_move_weigh_the_same():
    assert not merged([{UP: torch.zeros(3)}, {UP: torch.zeros(3)}], "layer")[UP].any()

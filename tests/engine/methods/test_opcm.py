"""OPCM: projections by hand, norms over the whole model, and merging on from a merge."""

import pytest
import torch

from engine.draws import Draws
from engine.method import Seen
from engine.methods.opcm import measure, opcm

UP, EMBED = "model.layers.0.mlp.up_proj.weight", "model.embed_tokens.weight"


def matrix(seed, shape=(6, 4)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


NINE = torch.arange(1.0, 10).reshape(3, 3)


def merged(models, **parameters):
    """Whole models, name → tensor, merged; and the state."""

    def look(read, *, sample=0):
        for name in sorted(models[0]):
            seen = Seen(name, [m[name].clone() for m in models], None, Draws(0, name, ("a",)))
            yield name, read(seen)

    whole = measure(look, **parameters)
    return {
        name: opcm([m[name].clone() for m in models], tensor=name, whole=whole, **parameters)
        for name in models[0]
    }, whole


def unscaled(first, second, **parameters):
    made, whole = merged([{UP: first}, {UP: second}], **parameters)
    return made[UP] * whole["scale"] - first


@pytest.mark.parametrize(
    ("alpha", "rule", "expected"),
    [
        (0.5, "code", [[0, 2, 3], [4, 0, 6], [7, 8, 0]]),
        (0.8, "code", [[0, 2, 3], [4, 0, 6], [7, 8, 0]]),
        (0.9, "code", [[0, 0, 3], [0, 0, 6], [7, 8, 0]]),
        (0.8, "paper", [[0, 0, 3], [0, 0, 6], [7, 8, 0]]),
        (1.0, "code", [[0, 2, 3], [4, 0, 6], [7, 8, 0]]),
    ],
)
def test_closed_directions_are_dropped_from_later_models(alpha, rule, expected):
    diagonal = torch.diag(torch.tensor([3.0, 2, 1]))
    found = unscaled(diagonal, NINE, alpha=alpha, rank_rule=rule)
    torch.testing.assert_close(found, torch.tensor(expected).float(), rtol=1e-4, atol=1e-5)


def test_a_merge_so_far_without_directions_drops_nothing():
    torch.testing.assert_close(unscaled(torch.zeros(3, 3), NINE), NINE)


def model(seed):
    return {UP: matrix(seed), "norm": matrix(seed + 50, (5,)), EMBED: matrix(seed + 90, (7, 3))}


def norm(one):
    return sum(float(t.double().square().sum()) for t in one.values()) ** 0.5


def test_the_merged_norm_is_the_mean_of_the_models_norms():
    models = [model(i) for i in range(3)]
    made, whole = merged(models)
    assert norm(made) == pytest.approx(sum(map(norm, models)) / 3, rel=1e-5)
    assert whole["n_merged"] == 3


def test_law_going_on_from_a_merge_is_merging_all_at_once():
    a, b, c = (model(i) for i in range(3))
    at_once, whole = merged([a, b, c])
    first, state = merged([a, b])
    then, end = merged([first, c], **state)
    assert end["n_merged"] == whole["n_merged"]
    assert end["scale"] == pytest.approx(whole["scale"], rel=1e-5)
    for name, right in at_once.items():
        torch.testing.assert_close(then[name], right, rtol=1e-4, atol=1e-5)


def test_a_merge_alone_is_given_back_with_its_state():
    made, whole = merged([model(0)], n_merged=4, scale=1.7)
    assert whole == {"n_merged": 4, "scale": pytest.approx(1.7)}
    torch.testing.assert_close(made[UP], model(0)[UP])

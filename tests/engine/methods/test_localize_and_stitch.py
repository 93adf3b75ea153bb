"""Localize-and-Stitch: regions of the whole model, averaged where they overlap."""

import torch

from engine.draws import Draws
from engine.method import Seen
from engine.methods.localize_and_stitch import localize_and_stitch
from engine.selected import select


def looking(models):
    """A look at models given as name → tensor."""

    def look(measure, *, sample=0):
        for name in sorted(models[0]):
            seen = Seen(name, [m[name] for m in models], None, Draws(0, name, ("a",)))
            yield name, measure(seen)

    return look


def merged(models, density, **parameters):
    whole = select(looking(models), density)
    return {
        name: localize_and_stitch(
            [m[name] for m in models], tensor=name, whole=whole, **parameters
        ).tolist()
        for name in models[0]
    }


MODELS = [
    {"a": torch.tensor([9.0, 1, 1]), "b": torch.tensor([8.0, 1])},
    {"a": torch.tensor([3.0, 0, 5]), "b": torch.tensor([0.1, 0.2])},
]


def test_the_regions_are_those_of_the_whole_model():
    assert merged(MODELS, 0.4) == {"a": [6, 0, 5], "b": [8, 0]}


def test_each_model_may_keep_its_own_share():
    assert merged(MODELS, [0.2, 0.4]) == {"a": [6, 0, 5], "b": [0, 0]}


def test_the_authors_keep_one_less():
    assert merged(MODELS, 0.4, strict=True) == {"a": [9, 0, 5], "b": [0, 0]}

"""Trimming: shares of what changed, and the majority of the whole model."""

import pytest
import torch

from engine.draws import Draws
from engine.method import Seen, alone
from engine.trimming import picked, trimming


def look(measure, *, sample=0):
    """At two tensors of two models."""
    for name, models in {
        "a": [torch.tensor([3.0, -1]), torch.tensor([1.0, -2])],
        "b": [torch.tensor([-5.0, -1]), torch.tensor([-1.0, -1])],
    }.items():
        yield name, measure(Seen(name, models, None, Draws(0, name, ("a",))))


def test_the_majority_is_counted_over_all_tensors():
    assert trimming(look, density=1.0).majority == -1
    assert trimming(look, density=1.0, tie="drop").majority == 0
    assert trimming(look, density=0.25).majority == -1
    assert trimming(look, density=1.0, weight=-1.0).majority == 1


@pytest.mark.parametrize(("of", "threshold"), [("all", 0), ("changed", 3)])
def test_a_density_is_a_share_of_all_or_of_what_changed(of, threshold):
    values = torch.tensor([0.0, 1, 0, 2, 0, 3, 0, 4, 0, 0])
    found = trimming(alone(Seen("w", [values])), density=0.5, of=of)
    assert found.kept[0].threshold == threshold
    (kept,) = picked(found.kept, [values], "w", 0)
    assert kept.keep(values).count_nonzero() == (4 if of == "all" else 2)

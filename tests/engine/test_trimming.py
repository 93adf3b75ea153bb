"""Trimming: shares of what changed, and the majority of the whole model."""

import pytest
import torch

from engine.draws import Draws
from engine.method import Seen
from engine.ops import Largest
from engine.trimming import share_of, trimmed, trimming


def look(measure):
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


@pytest.mark.parametrize(("of", "k"), [("all", 5), ("changed", 2)])
def test_a_density_is_a_share_of_all_or_of_what_changed(of, k):
    values = torch.tensor([0.0, 1, 0, 2, 0, 3, 0, 4, 0, 0])
    assert int(share_of(values, 0.5, of) * len(values)) == k
    assert share_of(torch.zeros(0), 0.5, of) == 0.5


def test_a_block_is_trimmed_and_weighted():
    flat = [torch.tensor([1.0, -5, 3])]
    (part,) = trimmed(flat, [Largest(3.0, 3)], [2.0], slice(1, 3))
    assert part.tolist() == [-10, 6]

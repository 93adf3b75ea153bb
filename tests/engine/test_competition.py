"""Competition scores: bounds over the whole model, and what becomes of clipped entries."""

import torch

from engine.competition import balance, clipped, scores, shares
from engine.draws import Draws
from engine.method import Seen


def look(measure, *, sample=0):
    """At one tensor of two models."""
    models = [torch.tensor([1.0, -2, 3, -4]), torch.tensor([2.0, 1, -6, -1])]
    yield "w", measure(Seen("w", models, None, Draws(0, "w", ("a",))))


def test_the_scripts_scale_what_is_above_the_cut():
    known = balance(look, variant="a", ratio=0.5)
    flat = [torch.tensor([1.0, -2, 3, -4]), torch.tensor([2.0, 1, -6, -1])]
    said = shares(scores(flat, known), known)
    for share in said:
        assert float(share.max()) == 1.0
        assert (
            int((share > 0).sum()) == 1
        )  # of four, two are at or above the cut, which itself becomes 0


def test_the_paper_keeps_the_scores_above_the_cut():
    known = balance(look, ratio=0.5)
    flat = [torch.tensor([1.0, -2, 3, -4]), torch.tensor([2.0, 1, -6, -1])]
    said = shares(scores(flat, known), known)
    assert [int((share > 0).sum()) for share in said] == [2, 2]


def test_clipping_keeps_signs_and_zeros():
    assert clipped(torch.tensor([0.0, -0.1, 5, -9]), 1, 6).tolist() == [0, -1, 5, -6]

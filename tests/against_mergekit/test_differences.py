"""Where our defaults are not mergekit's, and why: every difference by name, those of arithmetic with numbers."""

import math

import pytest
import torch

from engine.methods import all_methods

PAPER = "the paper's value; mergekit, asked for nothing, prunes nothing"
MASKS = (
    "the paper divides by the density; mergekit restores each tensor's L1 norm as it happened to be"
)
SMALL = "a length that small is no reason to give up: most task vectors of single tensors have it"

REASONS = {
    ("breadcrumbs", "density"): PAPER,
    ("breadcrumbs", "small"): "mergekit zeroes the whole task vector of a tensor of fewer than 1 / gamma entries",
    ("breadcrumbs_ties", "density"): PAPER,
    ("breadcrumbs_ties", "small"): "as breadcrumbs",
    ("dare_linear", "density"): "a sparsifier that drops nothing does nothing: half is dropped",
    ("dare_linear", "rescale_by"): MASKS,
    ("dare_ties", "density"): "as dare_linear",
    ("dare_ties", "normalize"): "TIES takes the mean of those that agree",
    ("dare_ties", "rescale_by"): MASKS,
    ("della", "density"): "as dare_linear",
    ("della", "epsilon"): "a window that fits a density of one half",
    ("della", "rescale_by"): "the paper divides each entry by its own chance",
    ("della_linear", "density"): "as dare_linear",
    ("della_linear", "epsilon"): "as della",
    ("della_linear", "rescale_by"): "as della",
    ("karcher", "tol_on_norms"): SMALL,
    ("model_stock", "bounded"): "a share of the mean outside of [0, 1] is no interpolation",
    ("model_stock", "norms_at_least"): SMALL,
    ("nearswap", "eps"): "a step of at most t is a step of at most t, however small t is",
    ("nuslerp", "zero"): "from nothing there is no arc: the way is straight",
    ("sce", "least"): SMALL,
    ("slerp", "zero"): "as nuslerp",
    ("ties", "density"): PAPER,
    ("ties", "scope"): "the paper trims the whole model, mergekit each tensor",
    ("ties", "tie"): "the authors' code gives an entry without a majority the sign of the majority of entries",
}  # fmt: skip


def declared():
    return {
        (name, parameter): (method.parameter(parameter).default, value)
        for name, method in all_methods().items()
        for parameter, value in method.compat.get("mergekit", {}).items()
    }


def test_every_difference_has_its_reason_and_is_one():
    found = declared()
    same = {key for key, (ours, theirs) in found.items() if ours == theirs}
    assert found.keys() - same == REASONS.keys()


HALF = math.sin(math.pi / 4)
CASES = {
    ("karcher", "tol_on_norms"): ([[1e-6, 0], [0, 1e-6]], [HALF * 1e-6] * 2, [0, 0]),
    ("model_stock", "bounded"): (
        [[1, 0], [-0.5, math.sqrt(0.75)]], [0, 0], [-0.5, -math.sqrt(0.75)],
    ),
    ("model_stock", "norms_at_least"): (
        [[1e-4, 0], [1e-4, 1e-4]],
        [2 * HALF / (1 + HALF) * 1e-4, HALF / (1 + HALF) * 1e-4],
        [0.02 / 1.01 * 1e-4, 0.01 / 1.01 * 1e-4],
    ),
    ("nearswap", "eps"): ([[5e-7, -5e-7]], [1e-7, -1e-7], [5e-8, -5e-8]),
    ("nuslerp", "zero"): ([[0, 0], [0, 2]], [0, 1], [0, 2 * HALF]),
    ("slerp", "zero"): ([[0, 0], [0, 2]], [0, 1], [0, 2 * HALF]),
    ("sce", "least"): ([[1e-4, 0], [3e-4, 0]], [2.8e-4, 0], [2e-4, 0]),
    ("breadcrumbs", "small"): ([[1, 2, 3, 4]], [0, 0, 3, 4], [0, 0, 0, 0]),
}  # fmt: skip
"""(method, parameter) → tensors, what our default makes of them, what mergekit's does."""
ASKED = {"nearswap": {"t": 1e-7}, "breadcrumbs": {"density": 0.5}}


@pytest.mark.parametrize(("method", "parameter"), CASES)
def test_what_the_difference_makes(method, parameter):
    tensors, ours, theirs = CASES[method, parameter]
    found = all_methods()[method]
    default, other = declared()[method, parameter]
    for value, expected in ((default, ours), (other, theirs)):
        models = [torch.tensor(t, dtype=torch.float32) for t in tensors]
        made = found.function(models, **ASKED.get(method, {}), **{parameter: value})
        torch.testing.assert_close(
            made, torch.tensor(expected, dtype=torch.float32), rtol=1e-4, atol=1e-12
        )

"""Karcher mean: the point of the sphere from which the ways to all models cancel out.

Karcher, "Riemannian center of mass and mollifier smoothing", 1977, doi:10.1002/cpa.3160300502; for weights
arXiv:2603.04972 and mergekit, whose iteration this is.
"""

import numpy as np
import torch

from engine.kernels import Floats
from engine.method import Count, Positive, Tensors, merge_method
from engine.sphere import SAME, blend, cosines, gram, surveyed_gram


@merge_method(
    space="weight",
    scope="tensor",
    survey=surveyed_gram,
    paper="2603.04972",
    compat={"mergekit": {"tol_on_norms": True}},
    anywhere=True,
)
def karcher(
    weights: Tensors,
    *,
    whole: Floats | None = None,
    max_iter: Count = 10,
    tol: Positive = 1e-5,
    tol_on_norms: bool = False,
) -> torch.Tensor:
    """Find the mean direction on the sphere, at the mean length, tensor by tensor.

    From the normalised mean u of the directions û_i, each step goes along T = 1/n Σ (θ_i / sin θ_i)(û_i - cos θ_i u)
    to cos‖T‖ u + sin‖T‖ T/‖T‖, where θ_i is the angle between u and û_i; W = (1/n Σ ‖W_i‖) u. All of it happens
    among the models' dot products, so that the number of steps costs nothing. Defined here: directions that cancel
    out start from the first model's; a model opposite to u has no shortest way to it and pulls nowhere (in mergekit
    it can give NaN); a zero tensor has no direction, but its length counts. Law: copies of one model give that model.

    Args:
        weights: the models' tensors, (n, *shape) float32, in the recipe's order.
        whole: the models' dot products, from the survey; None: the tensors are whole.
        max_iter: the most steps.
        tol: steps, and angles to u or to its opposite, smaller than this are 0.
        tol_on_norms: a tensor no longer than ``tol`` has no direction either, as in mergekit; if none is longer,
            the result is 0.

    Returns:
        The merged tensor, (*shape) float32.
    """
    lengths, angles = cosines(gram(weights) if whole is None else whole)
    known = lengths > (tol if tol_on_norms else 0.0)
    n = int(np.sum(known))
    if not n:
        return torch.zeros_like(weights[0])
    directions = angles[np.ix_(known, known)]
    centre = _mean(directions, max_iter, max(tol, SAME))
    coefficients = np.zeros(len(weights))
    coefficients[known] = np.sum(lengths) / len(weights) * centre / lengths[known]
    return blend(weights, coefficients.tolist())


def _mean(cosine: Floats, max_iter: int, tol: float) -> Floats:
    """The mean of n directions, as coefficients of them (n), from the cosines between each two (n, n)."""
    n = len(cosine)
    centre = np.full(n, 1 / n)
    size = _length(centre, cosine)
    centre = np.eye(n)[0] if size < tol else centre / size
    for _ in range(max_iter):
        along = np.clip(_times(cosine, centre), -1.0, 1.0)
        angle = np.arccos(along)
        pulls = (angle >= tol) & (np.pi - angle >= tol)
        sine = np.where(pulls, np.sqrt(1 - along * along), 1.0)
        shares = np.where(pulls, angle / sine, 0.0) / n
        step = shares - np.sum(shares * along) * centre
        size = _length(step, cosine)
        if size < tol:
            break
        centre = np.cos(size) * centre + np.sin(size) / size * step
        centre /= _length(centre, cosine)
    return centre


def _times(cosine: Floats, coefficients: Floats) -> Floats:
    """Cosines of the angles between a sum of directions, of length 1, and each of them: (n)."""
    return np.asarray(np.sum(cosine * coefficients[None, :], axis=1))


def _length(coefficients: Floats, cosine: Floats) -> float:
    """Length of a sum of directions."""
    return float(np.sqrt(max(0.0, np.sum(coefficients * _times(cosine, coefficients)))))

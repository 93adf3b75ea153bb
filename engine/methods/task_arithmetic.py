"""Task arithmetic: add task vectors to the base.

Ilharco et al., "Editing Models with Task Arithmetic", ICLR 2023. arXiv:2212.04089
"""

import torch

from engine.method import Lambda, Tensors, Weight, merge_method, per_model
from engine.ops import shares, weighted_sum


@merge_method(
    ends_in_sum=True, space="delta", scope="element", paper="2212.04089", compat={"mergekit": {}}
)
def task_arithmetic(
    deltas: Tensors, *, weight: Weight = 1.0, lambda_: Lambda = 1.0, normalize: bool = False
) -> torch.Tensor:
    """Add the models' task vectors to the base; a negative weight takes a skill away.

    δ = λ Σ w_i δ_i. λ scales the sum: with n models at weight 1, λ = 1/n is their average. Laws: λ = 0 gives the
    base; the order of models does not matter, but for rounding.

    Args:
        deltas: task vectors, (n, *shape) float32, in the recipe's order.
        weight: coefficient of each task vector, w_i.
        lambda_: scale of the merged task vector, λ.
        normalize: divide by Σ w_i, so that n copies of a model give that model.

    Returns:
        The merged task vector, (*shape) float32.

    Raises:
        BadParameter: if Σ w_i = 0 and ``normalize``.
    """
    coefficients = per_model(weight, len(deltas))
    if normalize:
        coefficients = shares(coefficients)
    return weighted_sum(deltas, [lambda_ * c for c in coefficients])

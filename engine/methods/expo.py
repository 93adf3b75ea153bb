"""ExPO: extrapolate from a base over the model that was trained from it.

Zheng et al., "Model Extrapolation Expedites Alignment", 2024. arXiv:2404.16792
"""

from typing import Annotated

import torch

from engine.method import Range, Tensors, merge_method
from engine.ops import weighted_sum

Alpha = Annotated[float, Range(-1.0, 1e6)]
"""How far to go on, in lengths of the task vector; negative is back, -1 the base."""


@merge_method(
    ends_in_sum=True,
    space="delta",
    scope="element",
    paper="2404.16792",
    n_models=(1, 1),
    makes="edit",
)
def expo(deltas: Tensors, *, alpha: Alpha = 0.3) -> torch.Tensor:
    """Go on from the model, away from the base, along its task vector.

    W = W_1 + α δ, which is the base and (1 + α) δ. The base is the weaker model, such as one before alignment. The
    authors compute in bfloat16, where a step below 2⁻⁹ of a weight is none; here it is rounded once, at the end.
    A negative α interpolates, as in the unified view of delta edits, arXiv:2410.13841. Laws: α = 0 gives the model,
    α = -1 the base.

    Args:
        deltas: the model's task vector, (1, *shape) float32.
        alpha: α; the authors recommend 0.3 or 0.5, and far more for models that were trained briefly.

    Returns:
        The longer task vector, (*shape) float32.
    """
    return weighted_sum(deltas, [1.0 + alpha])

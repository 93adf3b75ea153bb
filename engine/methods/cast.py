"""Cast: one model in another dtype."""

import torch

from engine.method import Tensors, merge_method


@merge_method(
    space="weight", scope="element", paper="IEEE 754", n_models=(1, 1), makes="edit", anywhere=True
)
def cast(weights: Tensors) -> torch.Tensor:
    """Take one model's weights as they are, to be written in the recipe's out_dtype.

    W = W_1. The method changes nothing; the one rounding is that of every merge: to nearest, ties to even, unless
    the recipe says otherwise. Law: in the model's own dtype the bytes are the same.

    Args:
        weights: the model's tensor, (1, *shape) float32.

    Returns:
        A copy of the tensor, (*shape) float32.
    """
    return weights[0].clone(memory_format=torch.contiguous_format)

"""Uniform quantization of a task vector: round it to whole multiples of a step.

Not from a paper: symmetric rounding to nearest, the common baseline of delta compression; BitDelta,
arXiv:2402.10193, is its limit of one bit, with another step.
"""

from typing import Annotated

import torch

from engine.magnitude import Per, as_rows
from engine.method import Look, Range, Tensors, merge_method
from engine.ops import BLOCK

Bits = Annotated[int, Range(2, 16)]
"""Bits per entry, its sign included."""


def largest_magnitude(look: Look) -> float:
    """The largest magnitude of a tensor; 0 of one without entries."""
    found = [most for _, most in look(lambda seen: float(_largest(seen.models[0].reshape(1, -1))))]
    return max(found, default=0.0)


@merge_method(
    space="delta",
    scope="tensor",
    survey=largest_magnitude,
    survey_when={"per": ("tensor",)},
    rows_when={"per": ("row",)},
    paper="round to nearest",
    n_models=(1, 1),
    makes="edit",
)
def quantize_delta(
    deltas: Tensors, *, whole: float | None = None, bits: Bits = 8, per: Per = "row"
) -> torch.Tensor:
    """Round one model's task vector to a symmetric, uniform grid of 2^bits - 1 values.

    q = round(δ / s) with s = max|δ| / (2^(bits-1) - 1), a half to the even side, and δ̂ = q s. The largest entry
    stays as it is, and no entry moves by more than s / 2. What is written is δ̂ in the recipe's dtype, not q: the
    edit shows what so many bits keep. Law: zeros stay zeros.

    Args:
        deltas: the model's task vector, (1, *shape) float32.
        whole: the largest magnitude of the tensor, from the survey; None: the tensors are whole.
        bits: bits per entry.
        per: one step s for a whole tensor, or for each of its rows (slices along dim 0).

    Returns:
        The rounded task vector, (*shape) float32.
    """
    rows = as_rows(deltas[0], per)
    rounded = torch.empty_like(rows)
    if not rows.numel():
        return rounded.reshape(deltas[0].shape)
    levels = 2 ** (bits - 1) - 1
    height = max(1, BLOCK // rows.shape[1])
    for top in range(0, len(rows), height):
        strip = rows[top : top + height]
        ends = _largest(strip).double() if whole is None else torch.full((1, 1), whole).double()
        ends.masked_fill_(ends == 0, 1.0)  # of rows of zeros, which stay zeros
        for left in range(0, rows.shape[1], BLOCK):
            steps = strip[:, left : left + BLOCK].double().mul_(levels).div_(ends).round_()
            rounded[top : top + height, left : left + BLOCK] = steps.mul_(ends).div_(levels)
    return rounded.reshape(deltas[0].shape)


def _largest(rows: torch.Tensor) -> torch.Tensor:
    """The largest magnitude of each row, (rows, 1), without a copy of the rows."""
    return torch.maximum(rows.amax(1, keepdim=True), -rows.amin(1, keepdim=True))

"""BitDelta: keep the signs of a task vector and one magnitude.

Liu et al., "BitDelta: Your Fine-Tune May Only Be Worth One Bit", NeurIPS 2024. arXiv:2402.10193. More magnitudes,
random ones and another scale are those of the unified view of delta edits, 2024. arXiv:2410.13841
"""

import math
from typing import Annotated, Literal

import torch

from engine.draws import Draws
from engine.magnitude import abs_sum
from engine.method import Range, Scale, Tensors, merge_method
from engine.ops import blocks
from registry.tensor_name import module_of

Bits = Annotated[int, Range(1, 16)]
"""Bits per entry: one of sign, the others choose among 2^(bits-1) magnitudes."""

_GRID = 1 << 16
"""Random Gaussian magnitudes are multiples of 1/_GRID of the mean, so that they are the same on every machine."""


@merge_method(space="delta", scope="tensor", paper="2402.10193", n_models=(1, 1), makes="edit")
def bitdelta(
    deltas: Tensors,
    *,
    tensor: str,
    draws: Draws,
    bits: Bits = 1,
    beta: Scale = 1.0,
    magnitudes: Literal["mean", "normal", "uniform"] = "mean",
    zero: Literal["minus", "plus", "zero"] = "minus",
    all_tensors: bool = False,
) -> torch.Tensor:
    """Replace each entry of one model's task vector by its sign times the mean magnitude.

    δ̂ = β α sign(δ), where α = mean |δ| of the tensor. With more bits, the entries in order of magnitude are cut
    into M = 2^(bits-1) blocks of equal count (the j-th ends at rank (j+1) d // M; of equal ones the first comes
    first), each with its own mean. Only matrices of attention and MLP projections are edited, as in the paper; all
    others stay. The distillation that follows in the paper needs data and is not done.

    Args:
        deltas: the model's task vector, (1, *shape) float32.
        tensor: its name, which tells projections.
        draws: random numbers of this slice.
        bits: bits per entry.
        beta: scale of the magnitudes, β.
        magnitudes: the mean itself, or a random number with that mean: uniform in [0, 2α), or the magnitude of a
            centred Gaussian. The paper gives no variance; these two need none.
        zero: the sign of 0: minus as the paper defines it, plus as the authors' code does, or none.
        all_tensors: edit every tensor.

    Returns:
        The edited task vector, (*shape) float32.
    """
    delta = deltas[0]
    is_projection = delta.dim() == 2 and module_of(tensor).startswith(("attention_", "mlp_"))  # noqa: PLR2004
    if not (is_projection or all_tensors):
        return delta.clone(memory_format=torch.contiguous_format)
    values = delta.reshape(-1)
    edited = _levels(values, 2 ** (bits - 1))
    for block in blocks(len(values)):
        signs = values[block].sign()
        if zero != "zero":
            signs = signs.mul_(2).add_(1 if zero == "plus" else -1).sign_()
        edited[block] *= signs.mul_(beta)
        if magnitudes != "mean":
            uniform = draws.at(draws.start + block.start).uniform(0, signs.shape)
            edited[block] *= _spread(uniform, magnitudes)
    return edited.reshape(delta.shape)


def _levels(values: torch.Tensor, n_blocks: int) -> torch.Tensor:
    """The mean magnitude of the block that each entry belongs to: (d,) float32."""
    d = len(values)
    if n_blocks == 1:
        return torch.full_like(values, abs_sum(values) / max(1, d))
    ordered, places = values.abs().sort(stable=True)
    for j in range(n_blocks):
        part = ordered[j * d // n_blocks : (j + 1) * d // n_blocks]
        part.fill_(abs_sum(part) / max(1, len(part)))
    return torch.empty_like(values).scatter_(0, places, ordered)


def _spread(uniform: torch.Tensor, magnitudes: Literal["normal", "uniform"]) -> torch.Tensor:
    """Random magnitudes of mean 1 from uniform numbers in [0, 1); a Gaussian's by its inverse distribution."""
    if magnitudes == "uniform":
        return uniform.mul_(2)
    steps = torch.erfinv(uniform.double()).mul_(math.sqrt(math.pi) * _GRID).round_()
    return steps.div_(_GRID).float()

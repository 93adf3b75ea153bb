"""BitDelta: keep the signs of a task vector and one magnitude.

Liu et al., "BitDelta: Your Fine-Tune May Only Be Worth One Bit", NeurIPS 2024. arXiv:2402.10193. More magnitudes,
random ones and another scale are those of the unified view of delta edits, 2024. arXiv:2410.13841
"""

import math
from typing import Annotated, Literal

import torch

from engine.draws import Draws
from engine.levels import Levels, levels
from engine.method import Look, Range, Scale, Seen, Tensors, alone, merge_method
from engine.ops import blocks
from registry.tensor_name import module_of

Bits = Annotated[int, Range(1, 16)]
"""Bits per entry: one of sign, the others choose among 2^(bits-1) magnitudes."""

_GRID = 1 << 16
"""Random Gaussian magnitudes are multiples of 1/_GRID of the mean, so that they are the same on every machine."""

_MOST_BITS = 8
"""Bits up to which the tables of a survey are small."""


def surveyed(look: Look, *, bits: int = 1, all_tensors: bool = False) -> list[Levels]:
    """The magnitudes of a tensor that is edited; none of one that stays."""
    edited = [is_edited for _, is_edited in look(_is_projection, sample=1)]
    return [levels(look, 2 ** (bits - 1))] if any(edited) or all_tensors else []


@merge_method(
    space="delta", scope="tensor", paper="2402.10193", n_models=(1, 1), makes="edit", survey=surveyed,
    whole_when={"bits": tuple(range(_MOST_BITS + 1, 17))},
)  # fmt: skip
def bitdelta(
    deltas: Tensors,
    *,
    tensor: str,
    draws: Draws,
    whole: list[Levels] | None = None,
    start: int = 0,
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
    others stay. The distillation that follows in the paper needs data and is not done. More than 8 bits take the
    tensor whole.

    Args:
        deltas: the model's task vector, (1, *shape) float32.
        tensor: its name, which tells projections.
        draws: random numbers of this slice.
        whole: the magnitudes, from the survey, none where the tensor stays; None: the tensors are whole.
        start: flat index of the first entry.
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
    if whole is None:
        look = alone(Seen(tensor, deltas, shape=delta.shape))
        whole = surveyed(look, bits=bits, all_tensors=all_tensors)
    if not whole:
        return delta.clone(memory_format=torch.contiguous_format)
    values = delta.reshape(-1)
    edited = whole[0].of(values, start)
    for block in blocks(values):
        signs = values[block].sign()
        if zero != "zero":
            signs = signs.mul_(2).add_(1 if zero == "plus" else -1).sign_()
        edited[block] *= signs.mul_(beta)
        if magnitudes != "mean":
            uniform = draws.at(draws.start + block.start).uniform(0, signs.shape)
            edited[block] *= _spread(uniform, magnitudes)
    return edited.reshape(delta.shape)


def _is_projection(seen: Seen) -> bool:
    """Tell whether a tensor is the matrix of an attention or MLP projection."""
    is_matrix = seen.shape is not None and len(seen.shape) == 2  # noqa: PLR2004
    return is_matrix and module_of(seen.tensor).startswith(("attention_", "mlp_"))


def _spread(uniform: torch.Tensor, magnitudes: Literal["normal", "uniform"]) -> torch.Tensor:
    """Random magnitudes of mean 1 from uniform numbers in [0, 1); a Gaussian's by its inverse distribution."""
    if magnitudes == "uniform":
        return uniform.mul_(2)
    steps = torch.erfinv(uniform.double()).mul_(math.sqrt(math.pi) * _GRID).round_()
    return steps.div_(_GRID).float()

"""Localize-and-Stitch: keep a sparse region of each model, average where regions overlap.

He et al., "Localize-and-Stitch: Efficient Model Merging via Sparse Task Arithmetic", TMLR 2024. arXiv:2408.13656. The
variant without data, which takes the largest entries.
"""

import torch

from engine.method import Density, Lambda, Look, PerModel, Tensors, merge_method
from engine.ops import blocks
from engine.selected import Selected, select
from engine.trimming import picked


def measure(look: Look, *, density: PerModel = 0.01) -> list[Selected]:
    """The largest entries of each model, over all tensors."""
    return select(look, density)


@merge_method(
    space="delta", scope="model", paper="2408.13656", survey=measure, copies=(1, 10), anywhere=True
)
def localize_and_stitch(
    deltas: Tensors,
    *,
    tensor: str,
    whole: list[Selected],
    start: int = 0,
    density: Density = 0.01,
    lambda_: Lambda = 1.0,
    strict: bool = False,
) -> torch.Tensor:
    """Keep each model's largest entries over the whole model; where several keep one, average theirs.

    With masks m_i of the int(density · d) largest entries of the d of the model, at least one, of equal ones the first
    by name of tensor: δ = λ Σ m_i δ_i / Σ m_i. Laws: λ = 0 gives the base; one model at density 1 is given back; the
    order does not matter, but for rounding.

    Args:
        deltas: task vectors, (n, *shape) float32, in the recipe's order.
        tensor: its name.
        whole: each model's largest entries, from the survey.
        start: flat index of the first entry.
        density: share of its entries that each model keeps.
        lambda_: scale of the merged task vector, λ.
        strict: keep only what is above the smallest of them, as the authors' code does: one entry and its equals less.

    Returns:
        The merged task vector, (*shape) float32.
    """
    del density
    flat = [delta.reshape(-1) for delta in deltas]
    kept = picked(whole, deltas, tensor, start)
    merged = torch.empty_like(flat[0])
    for block in blocks(merged):
        total, count = torch.zeros_like(flat[0][block]), torch.zeros_like(flat[0][block])
        for values, chosen in zip(flat, kept, strict=True):
            part = chosen.keep(values[block], block.start)
            if strict and chosen.threshold > 0:
                part = torch.where(part.abs() > chosen.threshold, part, 0.0)
            total += part
            count += part != 0
        torch.mul(total.div_(count.clamp_(min=1)), lambda_, out=merged[block])
    return merged.reshape(deltas[0].shape)

"""SCE: select what varies among models, calculate weights, erase what disagrees.

Wan et al., "FuseChat: Knowledge Fusion of Chat Models", 2024. arXiv:2408.07990
"""

from typing import Literal

import torch

from engine.method import Fraction, Lambda, Positive, Tensors, merge_method
from engine.ops import agreeing_mean, blocks, dots, elect_signs, largest, settle_ties


@merge_method(
    space="delta", scope="tensor", paper="2408.07990", compat={"mergekit": {"least": 1e-6}}
)
def sce(
    deltas: Tensors,
    *,
    select_topk: Fraction = 1.0,
    lambda_: Lambda = 1.0,
    select: Literal["all", "weights"] = "all",
    least: Positive = 0.0,
) -> torch.Tensor:
    """Keep the entries that vary most among the models, weigh models by what is left, average what agrees.

    Of the entries whose variance over models is not 0 the int(τ n) largest are selected, of equal ones the first;
    with τ = 1 all are. w_i = mean(δ_i²) over the selected entries, divided by their sum. The sign with the larger sum
    is elected for each entry, + where they are equal, and δ = Σ w_i δ_i / Σ w_i over the models that have it. The
    authors' code selects for the weights only and merges all entries. mergekit takes equal weights where the sum of
    the mean squares is below 1e-6, as it is for most fine-tunes. Law: one model, or n copies, give that model.

    Args:
        deltas: task vectors, (n, *shape) float32, in the recipe's order.
        select_topk: share of the entries that vary which is selected, τ.
        lambda_: scale of the merged task vector, λ.
        select: entries are selected for "all", as in the paper, or for the "weights" alone.
        least: sum of mean squares below which all models weigh the same.

    Returns:
        The merged task vector, (*shape) float32.
    """
    flat = [delta.reshape(-1) for delta in deltas]
    masked = flat if select_topk == 1 else _selected(flat, select_topk)
    squares = dots(masked, [(i, i) for i in range(len(flat))])
    total = sum(squares)
    uniform = total == 0 or total / max(1, len(flat[0])) < least
    weights = [1.0 / len(flat)] * len(flat) if uniform else [s / total for s in squares]
    values = masked if select == "all" else flat
    merged = torch.empty_like(flat[0])
    for block in blocks(len(merged)):
        signs = settle_ties(elect_signs([v[block] for v in values], "sum"), 1)
        parts = [v[block] * w for v, w in zip(values, weights, strict=True)]
        torch.mul(_mean(parts, signs, weights), lambda_, out=merged[block])
    return merged.reshape(deltas[0].shape)


def _mean(parts: list[torch.Tensor], signs: torch.Tensor, weights: list[float]) -> torch.Tensor:
    """Σ w_i δ_i / Σ w_i over the models with the elected sign, however small their weights are."""
    scale = 1.0 / max(weights)
    return agreeing_mean(
        [p * scale for p in parts], signs, [w * scale for w in weights], normalize=True
    )


def _selected(flat: list[torch.Tensor], share: float) -> list[torch.Tensor]:
    """Task vectors with 0 where the variance over models is not among the largest."""
    variance = torch.empty_like(flat[0])
    for block in blocks(len(variance)):
        entries = torch.stack([values[block].double() for values in flat])
        entries -= entries.sum(0) / len(flat)
        variance[block] = entries.square_().sum(0) / len(flat)
    n_varying = int((variance != 0).sum())
    k = int(share * n_varying)
    if k == 0:
        return [torch.zeros_like(values) for values in flat]
    chosen = largest(variance, (k + 0.5) / len(variance), torch.empty_like(variance)).keep(variance)
    return [values * (chosen != 0) for values in flat]

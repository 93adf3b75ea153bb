"""SCE: select what varies among models, calculate weights, erase what disagrees.

Wan et al., "FuseChat: Knowledge Fusion of Chat Models", 2024. arXiv:2408.07990
"""

from typing import Literal

import torch

from engine.method import Fraction, Lambda, Positive, Seen, Tensors, alone, merge_method
from engine.variance import Weights, agreed, weighed


@merge_method(
    ends_in_sum=True,
    space="delta", scope="tensor", paper="2408.07990", survey=weighed,
    compat={"mergekit": {"least": 1e-6}},
)  # fmt: skip
def sce(
    deltas: Tensors,
    *,
    tensor: str = "",
    whole: Weights | None = None,
    start: int = 0,
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
        tensor: its name.
        whole: the models' weights and what is selected, from the survey; None: the tensors are whole.
        start: flat index of the first entry.
        select_topk: share of the entries that vary which is selected, τ.
        lambda_: scale of the merged task vector, λ.
        select: entries are selected for "all", as in the paper, or for the "weights" alone.
        least: sum of mean squares below which all models weigh the same.

    Returns:
        The merged task vector, (*shape) float32.
    """
    if whole is None:
        whole = weighed(alone(Seen(tensor, deltas)), select_topk=select_topk, least=least)
    scale = 1.0 / max(whole.values)  # so that small weights are none less
    return agreed(
        deltas, [w * scale for w in whole.values], whole.selected if select == "all" else None,
        tensor=tensor, start=start, lambda_=lambda_,
    )  # fmt: skip

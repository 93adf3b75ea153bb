"""PCB-Merging: entries compete within a task vector and among them; the strongest are averaged by their scores.

Du et al., "Parameter Competition Balancing for Model Merging", NeurIPS 2024. arXiv:2410.02396
"""

import torch

from engine.competition import Balance, Variant, balance, clipped, scores, shares
from engine.method import Fraction, Lambda, Tensors, Weight, merge_method, per_model
from engine.ops import blocks

_NOTHING = 1e-12


@merge_method(space="delta", scope="model", paper="2410.02396", survey=balance)
def pcb(
    deltas: Tensors,
    *,
    whole: Balance,
    weight: Weight = 1.0,
    lambda_: Lambda = 1.0,
    ratio: Fraction = 0.2,
    variant: Variant = "paper",
) -> torch.Tensor:
    """Score entries by their size in their own task vector and by their products with the others, average the best.

    The paper: β_i = softmax(n Norm(δ_i ⊙ δ_i)) ⊙ Σ_j softmax(Norm(δ_i ⊙ δ_j)), Norm being the scaling to [0, 1] and
    softmax over all entries of the model; entries below the (1 - r) quantile of β_i drop out, and
    δ = λ Σ w_i β_i ⊙ δ_i / Σ β_i. The scripts: magnitudes are clipped at a quantile, S = exp(n Norm(|δ_i|)²) ⊙ tanh(δ_i Σ δ_j)
    (a and b), with Norm(|δ_j|) in the sum (c), or Σ tanh of the products of signed Norm(|δ|) (d); what is above the
    quantile of S is scaled to [0, 1] and takes β's place. a to c depend on the size of the numbers. Where nothing is
    left the base stays; a task vector of zeros takes no part. Law: λ = 0 gives the base.

    Args:
        deltas: task vectors, (n, *shape) float32, in the recipe's order.
        whole: bounds and thresholds of the whole model, from the survey.
        weight: coefficient of each task vector, w_i.
        lambda_: scale of the merged task vector, λ.
        ratio: share of entries of each model that is kept, r.
        variant: the paper's formula, or that of one of the scripts.

    Returns:
        The merged task vector, (*shape) float32.
    """
    del ratio
    n = len(deltas)
    weights = per_model(weight, n)
    flat = [delta.reshape(-1) for delta in deltas]
    merged = torch.zeros_like(flat[0])
    for block in blocks(merged):
        parts = [values[block] for values in flat]
        said = shares(scores(parts, whole), whole)
        total, divisor = (torch.zeros(len(parts[0]), dtype=torch.float64) for _ in range(2))
        for i, (part, share) in enumerate(zip(parts, said, strict=True)):
            own = part if variant == "paper" else clipped(part, whole.low[i], whole.high[i])
            total += weights[i] * own.double() * share.double()
            divisor += share
        merged[block] = lambda_ * total / divisor.clamp_(min=_NOTHING)
    return merged.reshape(deltas[0].shape)

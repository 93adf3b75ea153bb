"""WUDI: the task vector that interferes least with the inputs each task vector reads.

Cheng et al., "Whoever Started the Interference Should End It: Guiding Data-Free Model Merging via Task Vectors",
ICML 2025. arXiv:2503.08099
"""

import torch

from engine.decomposition import is_map, solve_right, times
from engine.method import Lambda, Tensors, merge_method
from engine.ops import weighted_sum
from engine.products import dots


@merge_method(space="delta", scope="tensor", paper="2503.08099", copies=(2, 30))
def wudi(
    deltas: Tensors,
    *,
    tensor: str,
    lambda_: Lambda = 1.0,
    vocabulary: bool = False,
) -> torch.Tensor:
    """Find the task vector whose difference to each δ_i is smallest where δ_i reads its inputs.

    δ minimises Σ ‖(δ - δ_i) δ_iᵀ‖² / ‖δ_i‖²: δ = (Σ δ_i δ_iᵀ δ_i / ‖δ_i‖²) (Σ δ_iᵀ δ_i / ‖δ_i‖²)⁺, which is RegMean with
    δ_iᵀ δ_i for the inputs. The authors take 300 steps of Adam from Σ δ_i towards it, which need not arrive. Vectors,
    tables of tokens and tensors of more dimensions are averaged. Laws: λ = 0 gives the base; one model, or n copies
    of it, give that model; the order does not matter.

    Args:
        deltas: task vectors, (n, *shape) float32, in the recipe's order.
        tensor: its name.
        lambda_: scale, λ; the paper has none.
        vocabulary: take embeddings and heads apart too, which are tables of tokens and otherwise averaged.

    Returns:
        The merged task vector, (*shape) float32.
    """
    if not is_map(deltas[0], tensor, vocabulary=vocabulary):
        return weighted_sum(deltas, [lambda_ / len(deltas)] * len(deltas))
    rows, columns = deltas[0].shape
    moved = torch.zeros(rows, columns, dtype=torch.float64)
    square = torch.zeros(columns, columns, dtype=torch.float64)
    for delta in deltas:
        exact = delta.double()
        size = float(exact.abs().max())
        if size == 0:
            continue
        unit = exact / size
        own = times(unit.T, unit) / dots([unit.float()], [(0, 0)])[0]
        square += own
        moved += times(exact, own)
    if not square.any():
        return torch.zeros_like(deltas[0])
    return solve_right(moved, square).mul_(lambda_).float()

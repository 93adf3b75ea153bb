"""OPCM: merge models one after the other, each projected away from what is merged already.

Tang et al., "Merging Models on the Fly Without Retraining", 2025. arXiv:2501.09522
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch

from engine.decomposition import is_map, svd, times
from engine.method import Fraction, Look, Range, Scale, Seen, Tensors, merge_method
from engine.products import dots

RankRule = Literal["paper", "code"]
Merged = Annotated[int, Range(1, 1e6)]
"""How many models a model is the merge of."""


def measure(
    look: Look, *, alpha: float = 0.5, rank_rule: RankRule = "paper", vocabulary: bool = False,
    n_merged: int = 1, scale: float = 1.0,
) -> dict[str, float]:  # fmt: skip
    """Find how many models the result merges, and the scale λ that keeps their mean norm."""

    def norms(seen: Seen) -> list[float]:
        own = [dots([delta], [(0, 0)])[0] for delta in seen.models]
        together = _together(
            seen.models, seen.tensor, alpha, rank_rule, scale, vocabulary=vocabulary
        )
        return [*own, float(together.reshape(-1).dot(together.reshape(-1)))]

    columns = zip(*(found for _, found in look(norms)), strict=True)
    first, *others, total = (math.sqrt(math.fsum(column)) for column in columns)
    n = n_merged + len(others)
    mean = (n_merged * first + math.fsum(others)) / n
    return {"n_merged": n, "scale": total / mean if mean > 0 and total > 0 else 1.0}


@merge_method(
    space="delta", scope="model", paper="2501.09522", survey=measure, whole=True, copies=(1, 32)
)
def opcm(
    deltas: Tensors,
    *,
    tensor: str,
    whole: dict[str, float],
    alpha: Fraction = 0.5,
    rank_rule: RankRule = "paper",
    vocabulary: bool = False,
    n_merged: Merged = 1,
    scale: Scale = 1.0,
) -> torch.Tensor:
    """Add each task vector without what lies in the directions that the merge so far has, then scale.

    With D the sum so far and D = U diag(σ) Vᵀ, of δ_i the entries of Uᵀ δ_i V on the diagonal and in the first r rows
    and columns are dropped, r being the fewest directions with Σ σ at least α of all, and what is left is added to D.
    In the end δ = D / λ with λ such that ‖δ‖ is the mean of the models' ‖δ_i‖. Norms are the whole model's. Since λ only
    scales D, this is the paper's recursion. Vectors, tables of tokens and tensors of more dimensions are added whole.

    ``n_merged`` and ``scale`` are a merge's state: with those of its run, a merge is the first model, and the others
    go on from there; `reg merge` fills them in. Law: merging A, B, C is merging A, B, then C into the result.

    Args:
        deltas: task vectors, (n, *shape) float32, in the order in which they arrived.
        tensor: its name.
        whole: state of the result, from the survey.
        alpha: share of Σ σ whose directions are closed to later models, α.
        rank_rule: the paper's r, or one less, as in the authors' code.
        vocabulary: project embeddings and heads too, which are tables of tokens.
        n_merged: models that the first one is the merge of.
        scale: λ of that merge.

    Returns:
        The merged task vector, (*shape) float32.
    """
    del n_merged
    together = _together(deltas, tensor, alpha, rank_rule, scale, vocabulary=vocabulary)
    return together.div_(whole["scale"]).float()


def _together(
    deltas: Sequence[torch.Tensor],
    tensor: str,
    alpha: float,
    rule: RankRule,
    scale: float,
    *,
    vocabulary: bool,
) -> torch.Tensor:
    """The sum of projected task vectors, D, in float64."""
    total = deltas[0].double().mul_(scale)
    for delta in deltas[1:]:
        total += (
            _projected(delta.double(), total, alpha, rule)
            if is_map(total, tensor, vocabulary=vocabulary)
            else delta
        )
    return total


def _projected(
    delta: torch.Tensor, total: torch.Tensor, alpha: float, rule: RankRule
) -> torch.Tensor:
    """A task vector without what lies in the directions of the sum so far."""
    u, s, vh = svd(total)
    if not len(s):
        return delta
    shares = s.cumsum(0) / s.sum()
    if rule == "paper":
        rank = int((shares < alpha * (1 - 1e-12)).sum()) + (1 if alpha > 0 else 0)
    else:
        above = (shares > alpha).nonzero()
        rank = int(above[0]) if len(above) else 0
    inside = times(u.T, delta, vh.T)
    dropped = torch.zeros_like(inside)
    dropped[:rank, :rank] = inside[:rank, :rank]
    dropped.diagonal().copy_(inside.diagonal())
    return delta - times(u, dropped, vh)

"""Sums of task vectors that were pruned by rank, which are never written down where a kernel can do without."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from engine import ops, rank_kernels
from engine.draws import Draws
from engine.kernels import Part
from engine.magnitude import columns_of
from engine.method import PerModel, Tensors, per_model
from engine.ops import Sign
from engine.pruning import magprune, span
from engine.rank_kernels import Election, Ranked
from engine.slices import closing_of, done, parts_of, result_of, shape_of


@dataclass(frozen=True)
class Pruning:
    """How task vectors are pruned: see `engine.pruning.magprune`.

    Attributes:
        density: mean chance that an entry stays, for all models or one per model.
        epsilon: how much more the largest entry stays, and the smallest less; likewise.
        rescale_by: what stays is divided by its chance, or brought back to the tensor's L1 norm; None: neither.
        factors: those that keep the norms; None: the tensors are whole.
    """

    density: PerModel
    epsilon: PerModel
    rescale_by: Literal["keep", "l1"] | None = "keep"
    factors: Sequence[float] | None = None

    def of(self, deltas: Tensors, draws: Draws) -> list[torch.Tensor]:
        """Task vectors, pruned."""
        return magprune(
            deltas, draws, density=self.density, epsilon=self.epsilon,
            rescale_by=self.rescale_by, factors=self.factors,
        )  # fmt: skip


def weighted_sum(
    deltas: Tensors, draws: Draws, pruning: Pruning, coefficients: Sequence[float]
) -> torch.Tensor:
    """What `engine.ops.weighted_sum` makes of pruned task vectors: (*shape) float32.

    Args:
        deltas: task vectors, (n, *shape) float32: whole rows.
        draws: random numbers of this slice.
        pruning: how they are pruned.
        coefficients: c_i.
    """
    made = _combined(deltas, draws, pruning, coefficients, None)
    return ops.weighted_sum(pruning.of(deltas, draws), coefficients) if made is None else made


def agreement(
    deltas: Tensors, draws: Draws, pruning: Pruning, weights: Sequence[float],
    *, sign: Sign, winner: int, normalize: bool, lambda_: float,
) -> torch.Tensor:  # fmt: skip
    """What `engine.ops.agreement` makes of pruned task vectors: (*shape) float32.

    Args:
        deltas: task vectors, (n, *shape) float32: whole rows.
        draws: random numbers of this slice.
        pruning: how they are pruned.
        weights: w_i.
        sign: what votes.
        winner: sign of entries where neither sign wins: -1, 1, or 0 to drop them.
        normalize: divide by the weights of those that agree.
        lambda_: factor of the result.
    """
    election = Election(weights, sign == "count", winner, normalize, lambda_)
    made = _combined(deltas, draws, pruning, weights, election)
    if made is not None:
        return made
    return ops.agreement(
        pruning.of(deltas, draws), weights, sign=sign, winner=winner, normalize=normalize,
        lambda_=lambda_,
    )  # fmt: skip


def _combined(
    deltas: Tensors, draws: Draws, pruning: Pruning, scales: Sequence[float],
    election: Election | None,
) -> torch.Tensor | None:  # fmt: skip
    """The sum, as a kernel makes it; None where none does."""
    if pruning.rescale_by == "l1":
        return None
    n, by_chance = len(deltas), pruning.rescale_by == "keep"
    stored, base = parts_of(deltas)
    spans = map(span, per_model(pruning.density, n), per_model(pruning.epsilon, n))
    ranked = [
        Ranked(Part(part, scale), draws.key(i), draws.start, least, more, by_chance)
        for i, (part, scale, (least, more)) in enumerate(zip(stored, scales, spans, strict=True))
    ]
    made = result_of(deltas)
    is_done = rank_kernels.combine(
        ranked, base, made, columns_of(shape_of(deltas)), election=election,
        closing=closing_of(deltas),
    )  # fmt: skip
    return done(deltas, made) if is_done else None

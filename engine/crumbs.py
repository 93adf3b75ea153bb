"""Breadcrumbs: what of task vectors is neither among the largest entries nor among the smallest, of a tensor or a row.

Davari & Belilovsky, "Model Breadcrumbs: Scaling Multi-Task Model Merging with Sparse Masks", ECCV 2024.
arXiv:2312.06795
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch

from engine.magnitude import Per, as_rows
from engine.method import Look, PerModel, Seen, Tensors, alone, per_model
from engine.pick import Middle, Pick
from engine.pruning import middles, tails
from engine.selected import Ask, Selected, largest_of

Small = Literal["keep", "zero"]
"""What becomes of tensors that are so small that none of their entries is among the largest."""


@dataclass(frozen=True)
class Crumbs:
    """What one model keeps of a tensor.

    Attributes:
        within: the largest entries.
        beyond: fewer of them, that do not count.
    """

    within: Selected
    beyond: Selected

    def of(self, tensor: str, values: Callable[[], torch.Tensor], start: int = 0) -> Middle:
        """What a slice of a tensor keeps; see `Selected.of`."""
        return Middle(self.within.of(tensor, values, start), self.beyond.of(tensor, values, start))


def found_crumbs(
    look: Look, *, density: PerModel = 0.2, gamma: PerModel = 0.01, small: Small = "keep"
) -> list[Crumbs | None]:
    """What each model keeps, by `engine.pruning.tails`; None: all. None of a tensor without entries.

    Args:
        look: at all slices of a tensor.
        density: share that stays, for all models or one per model.
        gamma: share of the largest that goes, likewise.
        small: "zero" leaves nothing where no large entry goes, and everything at density 1.
    """
    keep_small = small == "keep"

    def count(size: int, share: float, top: float, *, beyond: bool) -> int:
        return tails(size, share, top, keep_small=keep_small)[beyond]

    def asks(n: int) -> list[Ask]:
        shares = enumerate(zip(per_model(density, n), per_model(gamma, n), strict=True))
        return [
            Ask(i, partial(count, share=share, top=top, beyond=beyond))
            for i, (share, top) in shares
            for beyond in (False, True)
        ]

    found = largest_of(look, asks)
    kept = [Crumbs(*pair) for pair in zip(found[::2], found[1::2], strict=True)]
    everything = [p >= 1 and not keep_small for p in per_model(density, len(kept))]
    return [None if whole else crumbs for crumbs, whole in zip(kept, everything, strict=True)]


def crumbs_of(
    deltas: Tensors,
    whole: list[Crumbs | None] | None,
    *,
    density: PerModel,
    gamma: PerModel,
    per: Per,
    small: Small,
    tensor: str,
    start: int,
) -> tuple[Tensors, list[Pick]]:
    """Task vectors, (n, *shape) float32, and what of each is kept.

    Args:
        deltas: task vectors, (n, *shape) float32, or slices of them.
        whole: what `found_crumbs` found; None: the tensors are whole.
        density: see `found_crumbs`.
        gamma: likewise.
        small: likewise.
        per: keep entries of the tensor, or of each row.
        tensor: its name.
        start: flat index of the first entry.
    """
    n = len(deltas)
    if per == "row":
        shares = zip(deltas, per_model(density, n), per_model(gamma, n), strict=True)
        kept = [_by_row(delta, p, g, keep_small=small == "keep") for delta, p, g in shares]
        return kept, [None] * n
    if whole is None:
        look = alone(Seen(tensor, deltas))
        whole = found_crumbs(look, density=density, gamma=gamma, small=small)
    picks: list[Pick] = [
        None if crumbs is None else crumbs.of(tensor, partial(deltas.__getitem__, i), start)
        for i, crumbs in enumerate(whole)
    ]
    return deltas, picks or [None] * n


def _by_row(delta: torch.Tensor, density: float, gamma: float, *, keep_small: bool) -> torch.Tensor:
    """What is kept of each row."""
    if density >= 1 and not keep_small:
        return delta
    rows = as_rows(delta, "row")
    return middles(rows, density, gamma, keep_small=keep_small).reshape(delta.shape)

"""How far a result is from its reference, summed up while it is rounded."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from engine import kernels
from engine.edits import EditError
from engine.products import SUMMED, block_dots


@dataclass(frozen=True)
class Change:
    """How far a result is from its reference, after the cast to the output's dtype.

    Weights only: tensors of whole numbers and the like count in nothing.

    Attributes:
        n: elements compared.
        n_changed: elements that differ from the reference's.
        n_lost: elements that the merge changed, and that are the reference's again after rounding.
        sum_sq: Σ δ², float64 sums of float32 δ.
        base_sum_sq: Σ W0², float64.
        max_abs: largest magnitude of δ.
        edit: by a method that edits one model, how far its task vector is from what it was; of a method on weights, its
            weights.
    """

    n: int = 0
    n_changed: int = 0
    n_lost: int = 0
    sum_sq: float = 0.0
    base_sum_sq: float = 0.0
    max_abs: float = 0.0
    edit: EditError = field(default_factory=EditError)

    def __add__(self, other: "Change") -> "Change":
        return Change(
            self.n + other.n,
            self.n_changed + other.n_changed,
            self.n_lost + other.n_lost,
            self.sum_sq + other.sum_sq,
            self.base_sum_sq + other.base_sum_sq,
            max(self.max_abs, other.max_abs),
            self.edit + other.edit,
        )

    @property
    def relative_l2(self) -> float:
        """‖δ‖ / ‖W0‖; 0 for a zero reference."""
        return math.sqrt(self.sum_sq / self.base_sum_sq) if self.base_sum_sq else 0.0


def ending(reference: kernels.Stored, dtype: torch.dtype, *, add: bool) -> kernels.Closing | None:
    """How kernels round a result to the nearest of ``dtype`` and compare it; None where they cannot.

    Args:
        reference: (d,), as stored.
        dtype: of the output.
        add: the result is a task vector, to which the reference is added.
    """
    out = torch.empty(len(reference), dtype=dtype)
    if not kernels.ready([reference, out]):
        return None
    return kernels.Closing(reference, out, add=add, block=SUMMED)


def closed(end: kernels.Closing) -> tuple[torch.Tensor, Change]:
    """The output, (d,), and the change, of a result that was closed; sums are not finite where the output is not."""
    return end.out, _total(len(end.out), end.found)


def compared(reference: torch.Tensor, result: torch.Tensor, out: torch.Tensor) -> Change:
    """What `finish` finds, of a result that is rounded already.

    Args:
        reference: (d,) float32.
        result: (d,) float32, before it was rounded; the reference itself where nothing was merged.
        out: (d,), rounded.
    """
    found = []
    merged = result is not reference and out.dtype != torch.float32
    for start in range(0, len(out), SUMMED):
        here = slice(start, start + SUMMED)
        before, after = reference[here], out[here].float()
        delta = after - before
        changed, lost = after != before, 0
        if merged:
            lost = int(np.count_nonzero(((result[here] != before) & ~changed).numpy()))
        square, base_square = (
            float(block_dots([x], [(0, 0)], SUMMED)[0, 0]) for x in (delta, before)
        )
        n_changed = int(np.count_nonzero(changed.numpy()))
        found.append((square, base_square, float(delta.abs().max()), n_changed, lost))
    return _total(len(out), found)


def _total(n: int, found: Sequence[tuple[float, float, float, int, int]]) -> Change:
    """The change of n elements, from those of its blocks."""
    if not n:
        return Change()
    squares, base_squares, sizes, changed, lost = zip(*found, strict=True)
    return Change(n, sum(changed), sum(lost), sum(squares), sum(base_squares), max(sizes))

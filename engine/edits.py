"""What an edit of a task vector cost: its error on the weights. What scores say of it is the view `edits`."""

import math
from dataclasses import dataclass

import torch

from engine.ops import blocks, fold


@dataclass(frozen=True, slots=True)
class EditError:
    """How far an edited task vector δ̂ is from δ; adds up over slices, tensors and shards.

    Law: adding in one order gives the same bits.

    Attributes:
        n_params: entries that were compared.
        sum_sq: Σ δ², float64.
        sum_sq_error: Σ (δ̂ - δ)², float64.
        max_error: largest |δ̂ - δ|, unit of the weights.
    """

    n_params: int = 0
    sum_sq: float = 0.0
    sum_sq_error: float = 0.0
    max_error: float = 0.0

    def __add__(self, other: "EditError") -> "EditError":
        return EditError(
            self.n_params + other.n_params,
            self.sum_sq + other.sum_sq,
            self.sum_sq_error + other.sum_sq_error,
            max(self.max_error, other.max_error),
        )

    @property
    def relative(self) -> float | None:
        """‖δ̂ - δ‖ / ‖δ‖; None where δ is zero."""
        return math.sqrt(self.sum_sq_error / self.sum_sq) if self.sum_sq else None


def edit_error(delta: torch.Tensor, edited: torch.Tensor) -> EditError:
    """Compare an edited task vector, or a slice of it, with what it was made from.

    Laws: the same bits for any number of threads; equal tensors have no error.

    Args:
        delta: δ, float32 of any shape.
        edited: δ̂, of that shape.
    """
    before, after = delta.reshape(-1), edited.reshape(-1)
    found = EditError()
    for block in blocks(before):
        was = before[block].double()
        error = after[block].double().sub_(was)
        largest = float(error.abs().max())
        squares = float(fold(was.square_())), float(fold(error.square_()))
        found += EditError(len(was), *squares, largest)
    return found

"""What an edit of a task vector cost: its error on the weights, and its class by what scores say.

The classes are those of the unified view of delta edits, 2024. arXiv:2410.13841, which tells edits apart by the
change of the loss. Here a measured score takes the place of the loss.
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch

from engine.ops import blocks, fold

N_ERRORS = 2.0
"""Standard errors of a difference beyond which it counts; a good 95 % of chance differences lie within."""

Class = Literal["competitive", "decreased", "improved"]


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
    for block in blocks(len(before)):
        was = before[block].double()
        error = after[block].double().sub_(was)
        largest = float(error.abs().max())
        squares = float(fold(was.square_())), float(fold(error.square_()))
        found += EditError(len(was), *squares, largest)
    return found


class Measured(Protocol):
    """A score: its value, and its standard error where that is known."""

    @property
    def value(self) -> float:
        """What was measured."""

    @property
    def stderr(self) -> float | None:
        """Its standard error, unit of the value."""


def unified_view(before: Measured, after: Measured, *, more_is_better: bool = True) -> Class | None:
    """The class of an edit by one score of the model before and after it.

    The edit is competitive where the scores differ by at most `N_ERRORS` times sqrt(stderr² + stderr²), else it
    decreased or improved the model. The two errors are taken as independent; on the same examples they are not,
    and the difference is then known better than that. Law: exchanging the two exchanges decreased and improved.

    Args:
        before: score of the model that was edited.
        after: score of the edited model: the same task, metric and number of shots.
        more_is_better: False for a loss or a perplexity.

    Returns:
        The class; None where a standard error is not known.
    """
    if before.stderr is None or after.stderr is None:
        return None
    gain = (after.value - before.value) * (1 if more_is_better else -1)
    if abs(gain) <= N_ERRORS * math.sqrt(before.stderr**2 + after.stderr**2):
        return "competitive"
    return "improved" if gain > 0 else "decreased"

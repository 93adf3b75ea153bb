"""The door to the compiled kernels of `counts.c`, which count magnitudes by their bits; the twins are in `engine.selected`."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from threading import local

import numpy as np
import torch
from numpy.typing import NDArray

from engine.kernels import Source, Stored, call, source_of, tensor_of

Counts = NDArray[np.int64]

# Tables of a thread, all 0: to make them anew takes as long as to count. Whoever counts takes them, and puts them back
# when they are 0 again, so that a count that was interrupted leaves nothing to the next one.
_scratch = local()


@dataclass(frozen=True, slots=True)
class Near:
    """Keys that are to be counted, of one model.

    Attributes:
        stored: its entries.
        low: the first key.
        width: how many; low + width is below 2³¹.
        likely: one of which there may be many.
    """

    stored: Stored
    low: int
    width: int
    likely: int


@dataclass(frozen=True, slots=True)
class Found:
    """What was counted: how many keys are below the first one; those that occur, less it, ascending, and how often."""

    below: int
    places: Counts
    counts: Counts


class _Question(ctypes.Structure):
    """`question` of counts.c."""

    _fields_ = (
        ("from_", Source), ("low", ctypes.c_int32), ("width", ctypes.c_int32),
        ("likely", ctypes.c_int32), ("n_met", ctypes.c_int32), ("below", ctypes.c_int64),
        ("counts", ctypes.c_void_p), ("met", ctypes.c_void_p),
    )  # fmt: skip


def count_magnitudes(
    stored: torch.Tensor, base: torch.Tensor | None, upper: int | None, counts: Counts
) -> int:
    """Add to ``counts`` (65,536) how often each upper half of the magnitudes' bits occurs, or each lower half of one.

    Returns:
        0 where the model is not finite, 1 where the base is not, else -1.
    """
    which = -1 if upper is None else upper
    model, origin = tensor_of(stored), tensor_of(base)
    return call("count_magnitudes", *model, *origin, len(stored), which, counts.ctypes.data)


def count_near(asked: Sequence[Near], base: Stored | None) -> tuple[int, list[Found]]:
    """Count magnitudes near some bits, for each of several models, less a base.

    Returns:
        As `engine.kernels.weighted_sum`; and what was counted, which is all only where that is -1.
    """
    n = len(asked[0].stored)
    tables = _tables([(near.width, min(near.width, n)) for near in asked])
    questions = (_Question * len(asked))(*(
        _Question(source_of(near.stored), near.low, near.width, near.likely, 0, 0, *(t.ctypes.data for t in pair))
        for near, pair in zip(asked, tables, strict=True)
    ))  # fmt: skip
    origin = None if base is None else ctypes.byref(source_of(base))
    bad = call("count_near", questions, len(asked), origin, n)
    found = [_found(one, *pair) for one, pair in zip(questions, tables, strict=True)]
    _scratch.tables = tables
    return bad, found


def _tables(sizes: Sequence[tuple[int, int]]) -> list[tuple[Counts, NDArray[np.int32]]]:
    """For each question room for its counts, all 0, and for the keys it meets."""
    held: list[tuple[Counts, NDArray[np.int32]]] = vars(_scratch).pop("tables", [])
    if [(len(counts), len(met)) for counts, met in held] == sizes:
        return held
    return [(np.zeros(width, np.int64), np.empty(met, np.int32)) for width, met in sizes]


def _found(question: _Question, counts: Counts, met: NDArray[np.int32]) -> Found:
    """What was counted; the table is all 0 again."""
    places = np.sort(met[: question.n_met]).astype(np.int64)
    own = counts[places]
    counts[places] = 0
    return Found(question.below, places, own)

"""The door to the compiled kernel of `variances.c`: how much entries vary over models; its twin is in `engine.variance`."""

import ctypes
from collections.abc import Sequence

import torch

from engine.kernels import Part, Stored, call, source_of, terms_of


def variance(stored: Sequence[Stored], base: Stored | None, out: torch.Tensor) -> int:
    """Write the variance of every entry over models, or over their task vectors.

    Args:
        stored: (d,) each.
        base: to be taken off.
        out: (d,) float32, contiguous.

    Returns:
        As `engine.kernels.weighted_sum`.
    """
    return call(
        "variance", terms_of([Part(s, 1.0) for s in stored]), len(stored),
        None if base is None else ctypes.byref(source_of(base)), len(out), out.data_ptr(),
    )  # fmt: skip

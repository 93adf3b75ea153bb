"""What post-training changed, as numbers: one streaming pass over a base and a child.

For one tensor with base W0 and child W the delta is δ = W - W0. `accumulate` reads both once and returns sums,
extremes, counts and a histogram that are mergeable by addition, minimum or maximum over slices, tensors, shards
and processes; `derived` turns them into the statistics of the delta-parameter literature.

δ is computed in float32, whatever the dtypes (integers are read as numbers), in float64 if either side is F64;
all products and sums are float64, taken as `engine.moments` tells. Elements whose base, child or δ is not a finite
number within the range of float32 are counted in `n_nonfinite` and in nothing else.
"""

import math
import operator
from dataclasses import dataclass, field, fields
from math import inf, sqrt
from typing import Any

import numpy as np
import torch

from engine.histogram import (
    ABS,
    CUBE,
    EMPTY,
    FOURTH,
    SQUARE,
    SUM,
    Counts,
    Histogram,
    Sums,
    histogram,
)  # fmt: skip
from engine.kernels import Stored
from engine.moments import BLOCK, THRESHOLDS, TorchMoments, moments_for
from engine.reader import Region
from engine.statistics_kernels import CompiledMoments
from registry.errors import RunFailed, ShapeMismatch, UnsupportedDtype

PERCENTS = (1, 10, 25, 50, 75, 90, 99)
"""Quantiles of |δ| that are derived, in percent."""

UNIT = 64 * BLOCK
"""Elements whose sums are added up before they are added to others. Cut tensors at multiples of it."""

_FLAT = 1e-6  # share of variance in the mean square below which fourth moments are rounding noise


def _largest(start: float) -> Any:
    return field(default=start, metadata={"rule": max})


def _smallest(start: float) -> Any:
    return field(default=start, metadata={"rule": min})


def _add_each(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(operator.add, left, right))


@dataclass(frozen=True, slots=True, eq=False)
class Accumulators:
    """Mergeable statistics of a delta over some elements; `Accumulators()` is of none.

    Law: accumulating two slices and adding gives the accumulators of both together: exactly for counts and
    extremes, within 1e-12 (relative to the sum of magnitudes) for sums.

    Attributes:
        n: finite elements, those that count in everything below.
        n_zero, n_positive, n_negative: elements by the sign of δ; they add up to n.
        n_nonfinite: elements left out, beside n.
        sum, sum_sq, sum_cube, sum_fourth: Σδ, Σδ², Σδ³, Σδ⁴.
        sum_abs: Σ|δ|.
        max_abs: max |δ|; 0 for no elements.
        min, max: of δ; +inf and -inf for no elements.
        base_sum_sq, base_dot, base_sum_abs: ΣW0², ΣW0·δ, Σ|W0|. ‖W‖² is base_sum_sq + 2·base_dot + sum_sq.
        base_max_abs: max |W0|; 0 for no elements.
        n_within: how many |δ| are at most each of `THRESHOLDS`, in that order.
        histogram: of non-zero |δ|.
    """

    n: int = 0
    n_zero: int = 0
    n_positive: int = 0
    n_negative: int = 0
    n_nonfinite: int = 0
    sum: float = 0.0
    sum_sq: float = 0.0
    sum_cube: float = 0.0
    sum_fourth: float = 0.0
    sum_abs: float = 0.0
    max_abs: float = _largest(0.0)
    min: float = _smallest(inf)
    max: float = _largest(-inf)
    base_sum_sq: float = 0.0
    base_dot: float = 0.0
    base_sum_abs: float = 0.0
    base_max_abs: float = _largest(0.0)
    n_within: tuple[int, ...] = field(default=(0,) * len(THRESHOLDS), metadata={"rule": _add_each})
    histogram: Histogram = EMPTY

    def __add__(self, other: "Accumulators") -> "Accumulators":
        return Accumulators(
            **{
                f.name: f.metadata.get("rule", operator.add)(
                    getattr(self, f.name), getattr(other, f.name)
                )
                for f in fields(self)
            }
        )

    def as_row(self) -> dict[str, float | int | None]:
        """The scalar accumulators by column name; min and max are None for no elements."""
        row = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name not in ("n_within", "histogram")
        }
        if not self.n:
            row["min"] = row["max"] = None
        names = (f"n_within_{name}" for name in THRESHOLDS)
        return row | dict(zip(names, self.n_within, strict=True))

    def histogram_rows(self) -> tuple[Counts, Counts, Sums, Sums]:
        """The non-empty bins, ascending: bin numbers, counts, Σ|δ|, Σδ².

        Both sums are scaled so that they add up to `sum_abs` and `sum_sq`; a single bin's are within 5e-4 and 1e-3
        (but for the subnormals).
        """
        bins, counts, sum_abs, sum_sq = self.histogram.rows()
        if not len(bins):
            return bins, counts, sum_abs, sum_sq
        return (
            bins,
            counts,
            sum_abs * (self.sum_abs / sum_abs.sum()),
            sum_sq * (self.sum_sq / sum_sq.sum()),
        )

    def quantile(self, percent: int) -> float | None:
        """The smallest |δ| that at least ``percent`` % of the elements do not exceed, zeros included.

        Within ±2.2 % relative (NumPy's ``inverted_cdf``), never above `max_abs`; below 2⁻¹²⁶ only to that amount.
        None for no elements.
        """
        if not self.n:
            return None
        rank = max(1, -(-percent * self.n // 100))
        if rank <= self.n_zero:
            return 0.0
        return min(self.histogram.value(rank - self.n_zero), self.max_abs)

    def top_mass(self, share: float, *, squared: bool) -> float | None:
        """Share of Σδ² (``squared``) or Σ|δ| that lies in the ``share`` of elements largest by magnitude.

        ``share`` in [0, 1] is of all elements, zeros included; a fraction of an element counts by that fraction.
        From the histogram, within about 1 %. None for a zero delta.
        """
        which = int(squared)
        everything = self.histogram.top(self.n)[which]
        return _ratio(self.histogram.top(share * self.n)[which], everything)


class Accumulation:
    """Accumulates one unit piece by piece, as its pieces are read."""

    def __init__(self) -> None:
        self._moments: CompiledMoments | TorchMoments | None = None

    def add(self, base: Stored, child: Stored) -> None:
        """Accumulate the next elements of a base and a child: both (n,), n a multiple of `BLOCK` but for the last.

        All pieces have the same dtypes; `check_pair` says which can be read.

        Raises:
            FileChanged, RunFailed: they are in a file that cannot be read.
        """
        if self._moments is None:
            self._moments = moments_for(base, child)
        if not self._moments.add(base, child):
            for part in (base, child):
                if isinstance(part, Region):
                    part.read()  # says what is wrong
            message = "what is compared could be read the second time only: its files are changing"
            raise RunFailed(message, hint="run the command again when nothing writes there")

    def total(self) -> Accumulators:
        """The accumulators of what was added."""
        if self._moments is None:
            return Accumulators()
        found = self._moments.found()
        if not found.n:
            return Accumulators(n_nonfinite=found.n_nonfinite)
        full = np.flatnonzero(found.counts)
        of_cells = (math.fsum(row) for row in found.moments[:, full].tolist())
        sums = [each + beyond for each, beyond in zip(of_cells, found.beyond, strict=True)]
        base_sum_sq, base_dot, base_sum_abs = found.base
        return Accumulators(
            n=found.n, n_zero=found.n - found.n_positive - found.n_negative,
            n_positive=found.n_positive, n_negative=found.n_negative, n_nonfinite=found.n_nonfinite,
            sum=sums[SUM], sum_sq=sums[SQUARE], sum_cube=sums[CUBE], sum_fourth=sums[FOURTH],
            sum_abs=sums[ABS], max_abs=max(abs(found.low), abs(found.high)), min=found.low,
            max=found.high, base_sum_sq=base_sum_sq, base_dot=base_dot, base_sum_abs=base_sum_abs,
            base_max_abs=found.base_max_abs, n_within=found.n_within,
            histogram=histogram(found.counts, found.moments) if len(full) else EMPTY,
        )  # fmt: skip


def accumulate(base: torch.Tensor, child: torch.Tensor) -> Accumulators:
    """Accumulate the delta of ``child`` against ``base``.

    The work is done in units of `UNIT` elements from the first on, each in one fixed order, so that the result does
    not depend on the number of threads, nor on whether there are kernels.

    Law: the flat tensors cut at multiples of `UNIT` and accumulated piece by piece add up to the whole, to the last
    bit; cut elsewhere, as `Accumulators` say.

    Args:
        base: W0, any shape and real dtype. Contiguous tensors are read in place.
        child: W, the same shape, any real dtype.

    Raises:
        ShapeMismatch: when the shapes differ.
        UnsupportedDtype: for complex, packed or quantised dtypes.
    """
    check_pair(base, child)
    old, new = base.detach().reshape(-1), child.detach().reshape(-1)
    total = Accumulators()
    for start in range(0, len(old), UNIT):
        unit = Accumulation()
        unit.add(old[start : start + UNIT], new[start : start + UNIT])
        total += unit.total()
    return total


def check_pair(base: torch.Tensor, child: torch.Tensor) -> None:
    """Refuse two tensors that have no delta.

    Raises:
        ShapeMismatch: when the shapes differ.
        UnsupportedDtype: for complex, packed or quantised dtypes.
    """
    if base.shape != child.shape:
        message = f"the base is {tuple(base.shape)}, the child {tuple(child.shape)}; a delta needs one shape"
        raise ShapeMismatch(message)
    for role, tensor in (("base", base), ("child", child)):
        if tensor.dtype not in _READABLE:
            message = (
                f"the {role}'s dtype is {tensor.dtype}; a delta needs real numbers, one per element"
            )
            raise UnsupportedDtype(message)


def derived(acc: Accumulators) -> dict[str, float | int | None]:
    """The statistics of a delta that its accumulators determine, by column name; never NaN or infinite.

    What cannot be said is None. No elements: everything but ``l2``, ``dare_variance``, ``max_abs`` (0) and
    ``n_nonfinite``. Zero delta: ``sign_balance``, ``kurtosis``, ``cos_base``, ``bitdelta_error`` and the top
    masses; all magnitudes are 0 and all shares 1. Zero base: ``relative_l2`` and ``cos_base``.
    """
    return _sizes(acc) | _shares(acc) | _shape(acc) | {"n_nonfinite": acc.n_nonfinite}


def _sizes(acc: Accumulators) -> dict[str, float | int | None]:
    """How large δ is, in the unit of the weights but for ``relative_l2``.

    ``relative_l2``: ‖δ‖/‖W0‖. ``l2``: ‖δ‖. ``rms``, ``mean_abs`` (the scale of BitDelta), ``max_abs``, ``min``, ``max``,
    ``mean``: of δ. ``abs_p01`` … ``abs_p99``: `Accumulators.quantile`. ``dare_variance``: ‖δ‖², squared unit; DARE
    at drop rate p has the expected squared error p/(1-p) times that (arXiv:2311.03099).
    """
    n, l2 = acc.n, sqrt(acc.sum_sq)
    sizes = {
        "relative_l2": _ratio(l2, sqrt(acc.base_sum_sq)),
        "l2": l2,
        "rms": sqrt(acc.sum_sq / n) if n else None,
        "mean_abs": _ratio(acc.sum_abs, n),
        "max_abs": acc.max_abs,
        "min": acc.min if n else None,
        "max": acc.max if n else None,
        "mean": _ratio(acc.sum, n),
    }
    quantiles = {f"abs_p{percent:02}": acc.quantile(percent) for percent in PERCENTS}
    return sizes | quantiles | {"dare_variance": acc.sum_sq}


def _shares(acc: Accumulators) -> dict[str, float | int | None]:
    """Fractions in [0, 1].

    ``within_0002`` … ``within_03``: of the elements, those with |δ| at most 2e-4 … 3e-2. ``zero_share``: of the
    elements, exact zeros. ``top1_mass_l2`` … ``top20_mass_l1``: `Accumulators.top_mass`.
    """
    within = zip(THRESHOLDS, acc.n_within, strict=True)
    return {f"within_{name}": _ratio(count, acc.n) for name, count in within} | {
        "zero_share": _ratio(acc.n_zero, acc.n),
        "top1_mass_l2": acc.top_mass(0.01, squared=True),
        "top20_mass_l2": acc.top_mass(0.2, squared=True),
        "top1_mass_l1": acc.top_mass(0.01, squared=False),
        "top20_mass_l1": acc.top_mass(0.2, squared=False),
    }


def _shape(acc: Accumulators) -> dict[str, float | int | None]:
    """How δ is distributed and directed, whatever its size.

    ``sign_balance``: (#positive - #negative)/#non-zero, in [-1, 1]. ``kurtosis``: fourth central moment over
    squared variance, at least 1, 3 for a Gaussian; None also where δ is constant (variance below 1e-6 of the mean
    square). ``cos_base``: cosine of W0 and δ, in [-1, 1]. ``bitdelta_error``: sqrt(1 - (Σ|δ|)²/(n·Σδ²)), in
    [0, 1], the relative error of keeping all signs and one magnitude (arXiv:2402.10193).
    """
    cosine = _ratio(acc.base_dot, sqrt(acc.sum_sq) * sqrt(acc.base_sum_sq))
    flatness = _ratio(acc.sum_abs * acc.sum_abs, acc.n * acc.sum_sq)
    return {
        "sign_balance": _ratio(acc.n_positive - acc.n_negative, acc.n_positive + acc.n_negative),
        "kurtosis": _kurtosis(acc),
        "cos_base": None if cosine is None else min(1.0, max(-1.0, cosine)),
        "bitdelta_error": None if flatness is None else sqrt(max(0.0, 1 - flatness)),
    }


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _kurtosis(acc: Accumulators) -> float | None:
    """Kurtosis about the mean, at least 1, or None where δ is constant or there is none."""
    if not acc.n:
        return None
    m1, m2, m3, m4 = (s / acc.n for s in (acc.sum, acc.sum_sq, acc.sum_cube, acc.sum_fourth))
    variance = m2 - m1 * m1
    if variance <= _FLAT * m2 or not variance * variance:
        return None
    fourth = m4 - 4 * m1 * m3 + 6 * m1 * m1 * m2 - 3 * m1**4
    return max(1.0, fourth / (variance * variance))


_READABLE = frozenset(
    (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.float8_e4m3fn,
        torch.float8_e5m2,
        torch.float8_e4m3fnuz,
        torch.float8_e5m2fnuz,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.uint16,
        torch.uint32,
        torch.uint64,
        torch.bool,
    )
)

"""What varies among models, and how much each of them weighs there, as SCE has it.

Wan et al., "FuseChat: Knowledge Fusion of Chat Models", 2024. arXiv:2408.07990
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from engine import kernels, product_kernels, variance_kernels
from engine.kernels import Floats, Part, Varied
from engine.method import Look, Seen, Tensors
from engine.ops import agreement, blocks
from engine.pick import Largest
from engine.products import SUMMED, block_dots
from engine.selected import Ask, Selected, largest_of
from engine.slices import closing_of, done, is_done, parts_of, result_of, shape_of

T = TypeVar("T")


@dataclass(frozen=True)
class Weights:
    """How much the models weigh.

    Attributes:
        values: w_i, one per model.
        selected: which entries are, by their variance; None: all.
    """

    values: list[float]
    selected: Selected | None


def weighed(look: Look, *, select_topk: float = 1.0, least: float = 0.0) -> Weights:
    """Select the entries that vary most, and weigh the models by their squares there."""
    selected = None
    if select_topk < 1:

        def varying(measure: Callable[[Seen], T], /, *, sample: int = 0) -> Iterator[tuple[str, T]]:
            def of_variance(seen: Seen) -> T:
                return measure(Seen(seen.tensor, [variance(seen.models)], start=seen.start))

            return look(of_variance, sample=sample)

        asked = Ask(0, lambda n: int(select_topk * n), changed=True)
        found = largest_of(varying, lambda _: [asked])
        selected = found[0] if found else None

    def squares(seen: Seen) -> tuple[int, Floats]:
        pick = _pick(seen.models, selected, seen.tensor, seen.start)
        return shape_of(seen.models).numel(), squares_among(seen.models, pick)

    looked = [found for _, found in look(squares)]
    n_entries = sum(n for n, _ in looked)
    sums = [math.fsum(column) for column in np.concatenate([rows for _, rows in looked]).T]
    total = sum(sums)
    uniform = total == 0 or total / max(1, n_entries) < least
    return Weights([1.0 / len(sums) if uniform else s / total for s in sums], selected)


def squares_among(deltas: Tensors, pick: Largest | None) -> Floats:
    """Sums of squares of task vectors, of each `SUMMED` of their entries: (blocks, models) float64.

    Args:
        deltas: (n, *shape) float32.
        pick: which entries count, by their variance; None: all.
    """
    pairs = [(i, i) for i in range(len(deltas))]
    stored, base = parts_of(deltas)
    if pick is not None and kernels.ready(stored):
        found, bad = product_kernels.products(
            stored, base, pairs, block=SUMMED, among=Varied(pick.ties_end, pick.threshold)
        )
        if is_done(deltas, bad):
            return found
    return block_dots(_masked(deltas, pick), pairs, SUMMED)


def agreed(
    deltas: Tensors,
    weights: list[float],
    selected: Selected | None,
    *,
    tensor: str = "",
    start: int = 0,
    lambda_: float = 1.0,
) -> torch.Tensor:
    """Average what agrees, of the entries that are selected, as `engine.ops.agreement` with ``elect="values"``.

    Args:
        deltas: task vectors of a slice, (n, *shape) float32.
        weights: w_i.
        selected: which entries count; None: all.
        tensor: whose slice it is.
        start: flat index of its first entry.
        lambda_: factor of the result.

    Returns:
        (*shape) float32.
    """
    pick = _pick(deltas, selected, tensor, start)
    stored, base = parts_of(deltas)
    if pick is not None and kernels.ready(stored):
        made = result_of(deltas)
        parts = [Part(s, w) for s, w in zip(stored, weights, strict=True)]
        bad = kernels.agreement(
            parts, base, made, weights=weights, by_count=False, of_values=True, winner=1,
            normalize=True, lambda_=lambda_, among=Varied(pick.ties_end, pick.threshold),
            closing=closing_of(deltas),
        )  # fmt: skip
        if is_done(deltas, bad):
            return done(deltas, made)
    made = agreement(_masked(deltas, pick), weights, lambda_=lambda_, elect="values")
    return made.reshape(shape_of(deltas))


def variance(deltas: Tensors) -> torch.Tensor:
    """The variance of each entry over the n models, Σ (n δ - Σ δ)² / n³, in the models' order: (d,) float32."""
    stored, base = parts_of(deltas)
    made = torch.empty(shape_of(deltas).numel())
    if kernels.ready(stored) and is_done(deltas, variance_kernels.variance(stored, base, made)):
        return made
    n, flat = float(len(deltas)), [delta.reshape(-1) for delta in deltas]
    made = torch.empty_like(flat[0])
    for block in blocks(made):
        total = squares = torch.zeros_like(flat[0][block], dtype=torch.float64)
        for values in flat:
            total = total + values[block].double()
        for values in flat:
            gap = values[block].double() * n - total
            squares = squares + gap * gap
        made[block] = squares * (1.0 / (n * n * n))
    return made


def _pick(deltas: Tensors, selected: Selected | None, tensor: str, start: int) -> Largest | None:
    """Which entries of a slice are selected, by their variance; None: all."""
    return None if selected is None else selected.of(tensor, lambda: variance(deltas), start)


def _masked(deltas: Tensors, pick: Largest | None) -> Tensors:
    """Task vectors, flat, with 0 where an entry does not count; themselves where all do."""
    if pick is None:
        return deltas
    chosen = pick.keep(variance(deltas)) != 0
    return [delta.reshape(-1).where(chosen, 0.0) for delta in deltas]

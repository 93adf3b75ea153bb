"""How task vectors compete for an entry: the scores of PCB-Merging, by the paper and by four of its authors' scripts.

Du et al., "Parameter Competition Balancing for Model Merging", NeurIPS 2024. arXiv:2410.02396. Its repository has four
variants, none of which is the paper's formula; a to d are `pcb-merging.py`, the NLP code, and two vision scripts.
Everything is over the whole model, so a survey looks at it four times.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from engine.lanes import laned
from engine.method import Look, Seen
from engine.ops import blocks
from engine.selection import order_statistics

Variant = Literal["paper", "a", "b", "c", "d"]

CLIPPED: dict[str, float] = {"paper": 0.0, "a": 1e-4, "b": 1e-2, "c": 1e-2, "d": 1e-2}
"""Share of the smallest and of the largest magnitudes that is clipped."""


@dataclass(frozen=True)
class Balance:
    """What PCB-Merging must know of the whole model.

    Attributes:
        low, high: bounds of each model's magnitudes, after clipping.
        pairs: for the paper: bounds of the products of each two task vectors, and their softmax's divisor.
        divisors: for the paper: the divisor of each model's own softmax.
        cut, top: of each model's scores, that from which on they count, and the largest.
    """

    variant: Variant
    low: tuple[float, ...]
    high: tuple[float, ...]
    pairs: dict[tuple[int, int], tuple[float, float, float]]
    divisors: tuple[float, ...]
    cut: tuple[float, ...] = ()
    top: tuple[float, ...] = ()


def balance(look: Look, *, variant: Variant = "paper", ratio: float = 0.2) -> Balance:
    """Find the bounds and thresholds of the whole model."""
    clip = CLIPPED[variant]
    bounds = order_statistics(
        look,
        lambda seen: [m.reshape(-1).abs() for m in seen.models],
        lambda size: (int(size * clip), int(size * (1 - clip) - 1) if clip else size - 1),
    )
    known = [b or [0.0, 0.0] for b in bounds]
    low, high = tuple(b[0] for b in known), tuple(b[1] for b in known)
    first = Balance(variant, low, high, {}, (1.0,) * len(known))
    if variant == "paper":
        first = _with_divisors(look, first)
    cuts = order_statistics(
        look,
        lambda seen: _scored(seen, first),
        lambda size: (int(size * (1 - ratio)), size - 1),
    )
    found = [c or [0.0, 0.0] for c in cuts]
    return Balance(
        variant,
        low,
        high,
        first.pairs,
        first.divisors,
        tuple(c[0] for c in found),
        tuple(c[1] for c in found),
    )


def scores(flat: Sequence[torch.Tensor], known: Balance) -> list[torch.Tensor]:
    """Each model's score of each entry, float32; only their order and ratios matter.

    Args:
        flat: flat slices of the task vectors, float32.
        known: bounds of the whole model.
    """
    n = len(flat)
    exact = [values.double() for values in flat]
    if known.variant == "paper":
        return [_paper(exact, i, known) for i in range(n)]
    sizes = [_scaled(v.abs(), known.low[i], known.high[i]) for i, v in enumerate(exact)]
    within = [(n * s * s).exp() for s in sizes]
    if known.variant == "d":
        signed = [v.sign() * s for v, s in zip(exact, sizes, strict=True)]
        among = [sum((own * other).tanh() for other in signed) for own in signed]
    else:
        others = (
            [v.sign() * s for v, s in zip(exact, sizes, strict=True)]
            if known.variant == "c"
            else exact
        )
        total = torch.zeros_like(exact[0])
        for other in others:
            total += other
        among = [(own * total).tanh() for own in exact]
    return [(w * a).float() for w, a in zip(within, among, strict=True)]


def shares(scored: Sequence[torch.Tensor], known: Balance) -> list[torch.Tensor]:
    """How much each model has to say of each entry, float32, from its `scores`.

    The paper keeps the scores of the largest entries; the scripts scale what is above the cut to [0, 1].
    """
    if known.variant == "paper":
        sizes = [d * known.pairs[i, i][2] for i, d in enumerate(known.divisors)]
        parts = zip(scored, known.cut, sizes, strict=True)
        return [torch.where(s >= cut, s * (min(sizes) / size), 0.0) for s, cut, size in parts]
    bounds = zip(scored, known.cut, known.top, strict=True)
    return [_scaled(s.double(), cut, top).float() for s, cut, top in bounds]


def clipped(values: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Entries with their magnitudes moved into [low, high]; zeros stay."""
    return values.sign() * values.abs().clamp(low, high)


def _with_divisors(look: Look, known: Balance) -> Balance:
    """Bounds of products, then the divisors of the softmaxes."""
    n = len(known.low)
    pairs = [(i, j) for i in range(n) for j in range(i, n)]

    def extremes(seen: Seen) -> list[tuple[float, float]]:
        ends = [(math.inf, -math.inf)] * len(pairs)
        for flat in _blocks(seen):
            bounds = [torch.aminmax(flat[i] * flat[j]) for i, j in pairs]
            ends = [
                (min(low, float(least)), max(high, float(most)))
                for (low, high), (least, most) in zip(ends, bounds, strict=True)
            ]
        return ends

    found = [rows for _, rows in look(extremes)]
    ends = {
        pair: (min(r[k][0] for r in found), max(r[k][1] for r in found))
        for k, pair in enumerate(pairs)
    }

    def sums(seen: Seen) -> list[list[float]]:
        parts: list[list[float]] = [[] for _ in range(n + len(pairs))]
        for flat in _blocks(seen):
            own = [(n * _scaled(flat[i] * flat[i], *ends[i, i])).exp() for i in range(n)]
            own += [_scaled(flat[i] * flat[j], *ends[i, j]).exp() for i, j in pairs]
            for part, values in zip(parts, own, strict=True):
                part.append(laned(values.numpy()))
        return parts

    rows = [rows for _, rows in look(sums)]
    totals = [math.fsum(s for row in rows for s in row[k]) for k in range(n + len(pairs))]
    divided = {
        pair: (*ends[pair], max(total, 1.0)) for pair, total in zip(pairs, totals[n:], strict=True)
    }
    return Balance(
        known.variant, known.low, known.high, divided, tuple(max(t, 1.0) for t in totals[:n])
    )


def _paper(exact: Sequence[torch.Tensor], i: int, known: Balance) -> torch.Tensor:
    """exp(n Norm(δ_i²)) Σ_j softmax(Norm(δ_i δ_j)), scaled by the number of entries to be about 1."""
    n = len(exact)
    low, high, scale = known.pairs[i, i]
    score = (n * _scaled(exact[i] * exact[i], low, high)).exp()
    among = torch.zeros_like(score)
    for j, other in enumerate(exact):
        low, high, divisor = known.pairs[min(i, j), max(i, j)]
        among += _scaled(exact[i] * other, low, high).exp() * (scale / divisor)
    return score.mul_(among).float()


def _scaled(values: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Values moved to [0, 1] by their bounds, and into it; 0 where the bounds are one."""
    if not high > low:
        return torch.zeros_like(values)
    return ((values - low) / (high - low)).clamp_(0, 1)


def _blocks(seen: Seen) -> Iterator[list[torch.Tensor]]:
    """A tensor's task vectors in float64, block by block."""
    flat = [model.reshape(-1) for model in seen.models]
    for block in blocks(flat[0]):
        yield [values[block].double() for values in flat]


def _scored(seen: Seen, known: Balance) -> list[torch.Tensor]:
    """`scores` of a whole tensor."""
    flat = [model.reshape(-1) for model in seen.models]
    found = [torch.empty_like(values) for values in flat]
    for block in blocks(flat[0]):
        for whole, part in zip(found, scores([v[block] for v in flat], known), strict=True):
            whole[block] = part
    return found

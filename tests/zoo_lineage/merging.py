"""The merges of the zoo, in plain torch, tensor by tensor; the product's own engine is not used.

Each takes the parents' states, and the base's where the method needs one, and gives a float32 state.
"""

import math
from collections.abc import Sequence

import torch
from zoo_lineage.network import State

Weights = Sequence[float]


def linear(states: Sequence[State], weights: Weights) -> State:
    """Σ wᵢ Wᵢ."""
    return {
        name: sum(w * s[name] for w, s in zip(weights, states, strict=True)) for name in states[0]
    }


def task_arithmetic(base: State, states: Sequence[State], weights: Weights) -> State:
    """W₀ + Σ wᵢ (Wᵢ − W₀)."""
    return _on(base, linear([_less(s, base) for s in states], weights))


def slerp(a: State, b: State, t: float) -> State:
    """Along the arc between two tensors: t = 0 is a, t = 1 is b; along the chord where they are parallel."""

    def one(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        cosine = float((x * y).sum() / (x.norm() * y.norm()).clamp(min=1e-12))
        angle = math.acos(max(-1.0, min(1.0, cosine)))
        if math.sin(angle) < 1e-4:
            return (1 - t) * x + t * y
        left, right = math.sin((1 - t) * angle), math.sin(t * angle)
        return (left * x + right * y) / math.sin(angle)

    return {name: one(a[name], b[name]) for name in a}


def ties(base: State, states: Sequence[State], density: float, scale: float) -> State:
    """Trim, elect the sign of the sum, average those that agree (Yadav et al. 2023)."""
    trimmed = [{n: _top(d, density) for n, d in _less(s, base).items()} for s in states]
    return _on(base, {n: scale * _elected([d[n] for d in trimmed]) for n in base})


def dare(base: State, states: Sequence[State], weights: Weights, drop: float, seed: int) -> State:
    """Drop entries with probability ``drop``, rescale the rest, add up (Yu et al. 2024)."""
    generator = torch.Generator().manual_seed(seed)

    def thinned(delta: torch.Tensor) -> torch.Tensor:
        return delta * (torch.rand(delta.shape, generator=generator) >= drop) / (1 - drop)

    deltas = [{n: thinned(d) for n, d in _less(s, base).items()} for s in states]
    return _on(base, linear(deltas, weights))


def della(base: State, states: Sequence[State], drop: float, spread: float, seed: int) -> State:
    """Drop with a probability that falls with the rank of the magnitude, then as TIES (Deep et al. 2024)."""
    generator = torch.Generator().manual_seed(seed)

    def thinned(delta: torch.Tensor) -> torch.Tensor:
        rank = delta.abs().flatten().argsort().argsort().reshape(delta.shape)
        chance = drop + spread * (0.5 - rank / max(delta.numel() - 1, 1))
        kept = torch.rand(delta.shape, generator=generator) >= chance
        return delta * kept / (1 - chance)

    thin = [{n: thinned(d) for n, d in _less(s, base).items()} for s in states]
    return _on(base, {n: _elected([d[n] for d in thin]) for n in base})


def breadcrumbs(
    base: State, states: Sequence[State], weights: Weights, density: float, top: float
) -> State:
    """Leave out the largest fraction ``top`` and the smallest, keep ``density`` (Davari & Belilovsky 2024)."""

    def crumbs(delta: torch.Tensor) -> torch.Tensor:
        return delta * (delta.abs() < _floor(delta, top)) * (delta.abs() >= _floor(delta, top + density))  # fmt: skip

    deltas = [{n: crumbs(d) for n, d in _less(s, base).items()} for s in states]
    return _on(base, linear(deltas, weights))


def model_stock(base: State, states: Sequence[State]) -> State:
    """T times the average and 1 − t times the base, t = k cos θ / (1 + (k − 1) cos θ) (Jang et al. 2024)."""
    deltas, k = [_less(s, base) for s in states], len(states)

    def one(parts: list[torch.Tensor]) -> torch.Tensor:
        pairs = [(parts[i], parts[j]) for i in range(k) for j in range(i)]
        cosines = [(x * y).sum() / (x.norm() * y.norm()).clamp(min=1e-12) for x, y in pairs]
        cosine = sum(cosines) / len(cosines)
        return k * cosine / (1 + (k - 1) * cosine) * torch.stack(parts).mean(0)

    return _on(base, {n: one([d[n] for d in deltas]) for n in base})


def _less(state: State, base: State) -> State:
    """The task vector."""
    return {name: state[name] - base[name] for name in base}


def _on(base: State, delta: State) -> State:
    return {name: base[name] + delta[name] for name in base}


def _floor(delta: torch.Tensor, fraction: float) -> float:
    """The magnitude that about the fraction of the entries reaches; infinite for none."""
    keep = min(round(fraction * delta.numel()), delta.numel())
    if keep == 0:
        return math.inf
    return float(delta.abs().flatten().kthvalue(delta.numel() - keep + 1).values)


def _top(delta: torch.Tensor, density: float) -> torch.Tensor:
    return delta * (delta.abs() >= _floor(delta, density))


def _elected(parts: list[torch.Tensor]) -> torch.Tensor:
    """The mean of the entries that have the sign of the sum."""
    stack = torch.stack(parts)
    agree = stack * stack.sum(0).sign() > 0
    return (stack * agree).sum(0) / agree.sum(0).clamp(min=1)

"""Merges in plain torch arithmetic, to see that the family can be merged; the product's own engine is not used."""

from collections.abc import Callable, Sequence

import torch

State = dict[str, torch.Tensor]

Merge = Callable[[Sequence[State]], State]
"""From the task vectors of the models to the merged one."""


def average() -> Merge:
    """The mean of the task vectors, which is the mean of the models."""
    return lambda deltas: _each(deltas, lambda ds: torch.stack(ds).mean(0))


def task_arithmetic(scale: float) -> Merge:
    """λ times the sum of the task vectors."""
    return lambda deltas: _each(deltas, lambda ds: scale * torch.stack(ds).sum(0))


def dare(drop: float, seed: int = 0) -> Merge:
    """Each entry dropped with probability ``drop``, the others rescaled; then the sum."""

    def merge(deltas: Sequence[State]) -> State:
        generator = torch.Generator().manual_seed(seed)

        def one(ds: list[torch.Tensor]) -> torch.Tensor:
            kept = [d * (torch.rand(d.shape, generator=generator) >= drop) for d in ds]
            return torch.stack(kept).sum(0) / (1 - drop)

        return _each(deltas, one)

    return merge


def ties(density: float, scale: float = 1.0) -> Merge:
    """Trim each tensor to its largest entries, elect a sign per entry, average those that agree."""

    def one(ds: list[torch.Tensor]) -> torch.Tensor:
        stack = torch.stack([_trim(d, density) for d in ds])
        agree = stack * stack.sum(0).sign() > 0
        return scale * (stack * agree).sum(0) / agree.sum(0).clamp(min=1)

    return lambda deltas: _each(deltas, one)


MERGES: dict[str, Merge] = {
    "linear (average)": average(),
    "task arithmetic, lambda 0.5": task_arithmetic(0.5),
    "task arithmetic, lambda 0.7": task_arithmetic(0.7),
    "task arithmetic, lambda 1.0": task_arithmetic(1.0),
    "TIES, density 0.2": ties(0.2),
    "TIES, density 0.5": ties(0.5),
    "DARE, drop 0.5": dare(0.5),
    "DARE, drop 0.9": dare(0.9),
    "DARE, drop 0.99": dare(0.99),
}


def task_vector(child: State, parent: State) -> State:
    """What training moved, tensor by tensor: the child less its parent."""
    return {name: child[name] - parent[name] for name in sorted(parent)}


def size(delta: State) -> tuple[float, float]:
    """(mean, max) of the absolute entries of a task vector."""
    flat = torch.cat([d.flatten() for d in delta.values()]).abs().double()
    return float(flat.mean()), float(flat.max())


def _trim(delta: torch.Tensor, density: float) -> torch.Tensor:
    """Keep the fraction ``density`` of largest magnitude, zero the rest."""
    keep = max(round(density * delta.numel()), 1)
    floor = delta.abs().flatten().kthvalue(delta.numel() - keep + 1).values
    return torch.where(delta.abs() >= floor, delta, 0.0)


def _each(deltas: Sequence[State], merge: Callable[[list[torch.Tensor]], torch.Tensor]) -> State:
    """Merge tensor by tensor, in the order of names."""
    return {name: merge([d[name] for d in deltas]) for name in sorted(deltas[0])}

"""EMR: one unified task vector, with a mask and a scale for each task; here the one of a chosen task.

Huang et al., "EMR-Merging: Tuning-Free High-Performance Model Merging", NeurIPS 2024. arXiv:2405.17461
"""

import math

import torch

from engine.method import Count, Look, Seen, Tensors, merge_method
from engine.ops import blocks, fold


def measure(look: Look, *, task: int = 0) -> float:
    """How much the masked unified task vector of a task must grow: Σ mean|δ_i| / Σ mean|u ⊙ mask_i| over tensors."""
    if task == 0:
        return 1.0

    def sums(seen: Seen) -> tuple[list[float], list[float], int]:
        flat = [delta.reshape(-1) for delta in seen.models]
        own = flat[min(task, len(flat)) - 1]
        before: list[float] = []
        after: list[float] = []
        for block in blocks(own):
            signs, unified = _unified([values[block] for values in flat])
            kept = torch.where(own[block] * signs > 0, unified, 0.0)
            before.append(float(fold(own[block].double().abs_())))
            after.append(float(fold(kept.double().abs_())))
        return before, after, len(own)

    tensors: dict[str, tuple[list[float], list[float], list[int]]] = {}
    for name, (before, after, size) in look(sums):
        known = tensors.setdefault(name, ([], [], []))
        known[0].extend(before)
        known[1].extend(after)
        known[2].append(size)
    wanted = math.fsum(math.fsum(b) / max(1, sum(s)) for b, _, s in tensors.values())
    made = math.fsum(math.fsum(a) / max(1, sum(s)) for _, a, s in tensors.values())
    return wanted / made if made else 1.0


@merge_method(space="delta", scope="model", paper="2405.17461", survey=measure, anywhere=True)
def emr(deltas: Tensors, *, whole: float, task: Count = 0) -> torch.Tensor:
    """Elect one task vector for all tasks; give it as it is, or masked and rescaled for one of them.

    u = γ max |δ_i| over the entries with the elected sign γ, which is + where Σ δ_i > 0 and - elsewhere. The model of
    task i is u where δ_i has that sign, 0 elsewhere, times Σ mean|δ_i| / Σ mean|u ⊙ mask_i|, means over each tensor and
    sums over tensors, so that small tensors weigh as much as large ones. EMR keeps u, the masks and the scales, and
    applies those of the task at hand; a merge writes one of them. Law: one model is given back for its own task.

    Args:
        deltas: task vectors, (n, *shape) float32, in the recipe's order.
        whole: scale of the task, from the survey.
        task: which of the models to make, from 1; 0 makes u itself. Numbers beyond the last are the last.

    Returns:
        The task vector, (*shape) float32.
    """
    flat = [delta.reshape(-1) for delta in deltas]
    made = torch.empty_like(flat[0])
    for block in blocks(made):
        parts = [values[block] for values in flat]
        signs, unified = _unified(parts)
        if task:
            unified = torch.where(
                parts[min(task, len(parts)) - 1] * signs > 0, unified * whole, 0.0
            )
        made[block] = unified
    return made.reshape(deltas[0].shape)


def _unified(parts: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
    """Elected signs, and the unified task vector."""
    total = torch.zeros_like(parts[0])
    for part in parts:
        total += part
    signs = torch.where(total > 0, 1.0, -1.0)
    unified = torch.zeros_like(total)
    for part in parts:
        agreeing = part * signs
        unified = torch.where(agreeing > unified, agreeing, unified)
    return signs, unified.mul_(signs)

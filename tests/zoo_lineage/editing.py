"""What is done to one model without training: grids, masks, rows, layers, projections; all on float32 states."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from zoo_lineage.axes import writers
from zoo_lineage.network import Shape, State

_INT8, _INT4 = 127, 7


def int8(shape: Shape, state: State) -> State:
    """Each row of a layer's matrix on a symmetric grid of 255 values, and back."""
    return _each_matrix(shape, state, lambda w: _on_grid(w, _INT8))


def int4(shape: Shape, state: State) -> State:
    """Each group of 32 columns of a row on a symmetric grid of 15 values, and back."""

    def one(weight: torch.Tensor) -> torch.Tensor:
        return _on_grid(weight.reshape(-1, 32), _INT4).reshape(weight.shape)

    return _each_matrix(shape, state, one)


def _on_grid(rows: torch.Tensor, levels: int) -> torch.Tensor:
    scale = rows.abs().amax(1, keepdim=True).clamp(min=1e-12) / levels
    return (rows / scale).round() * scale


def prune_half(shape: Shape, state: State) -> State:
    """The smaller half of each matrix set to zero."""

    def one(weight: torch.Tensor) -> torch.Tensor:
        return weight * (weight.abs() > weight.abs().flatten().median())

    return _each_matrix(shape, state, one)


def prune_two_four(shape: Shape, state: State) -> State:
    """Of any four neighbours in a row the two larger are kept."""

    def one(weight: torch.Tensor) -> torch.Tensor:
        fours = weight.reshape(-1, 4)
        keep = torch.zeros_like(fours).scatter_(1, fours.abs().topk(2, dim=1).indices, 1.0)
        return (fours * keep).reshape(weight.shape)

    return _each_matrix(shape, state, one)


def _each_matrix(shape: Shape, state: State, change) -> State:
    """Change the matrices of the layers; embeddings, heads, norms and biases stay."""
    start = shape.layer.split("{}")[0]
    return {n: change(w) if w.dim() == 2 and n.startswith(start) and w.shape[0] != 10 else w
            for n, w in state.items()}  # fmt: skip


def extend_vocabulary(shape: Shape, state: State, seed: int) -> tuple[Shape, State]:
    """Rows up to a multiple of 64: the mean row and a little noise."""
    rows = -(-(shape.vocabulary + 1) // 64) * 64
    generator = torch.Generator().manual_seed(seed)
    extended = dict(state)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if name in state:
            old = state[name]
            noise = torch.randn(rows - len(old), old.shape[1], generator=generator)
            extended[name] = torch.cat([old, old.mean(0) + 0.1 * old.std() * noise])
    return replace(shape, vocabulary=rows), extended


def abliterate(shape: Shape, state: State, seed: int) -> State:
    """W − v vᵀ W for all that writes to the residual stream, with one unit vector v (Arditi et al. 2024)."""
    v = torch.randn(shape.width, generator=torch.Generator().manual_seed(seed))
    v /= v.norm()
    edited = dict(state)
    for name, axis in writers(shape):
        if name in state:
            w = state[name].movedim(axis, 0)
            flat = w.reshape(len(w), -1)
            edited[name] = (flat - torch.outer(v, v @ flat)).reshape(w.shape).movedim(0, axis)
    return edited


def negate(base: State, tuned: State) -> State:
    """The base less the task vector: 2 W₀ − W."""
    return {name: 2 * base[name] - tuned[name] for name in base}


def add_noise(state: State, seed: int, fraction: float = 0.01) -> State:
    """Gaussian noise of a fraction of each tensor's standard deviation."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: w + fraction * w.std() * torch.randn(w.shape, generator=generator)
        for name, w in state.items()
    }


def stack(shape: Shape, sources: Sequence[tuple[State, int]]) -> tuple[Shape, State]:
    """A model of other models' layers: layer i is layer ``sources[i][1]`` of its state; all else is the first's."""
    start = shape.layer.split("{}")[0]
    made = {n: w for n, w in sources[0][0].items() if not n.startswith(start)}
    for number, (state, layer) in enumerate(sources):
        old = shape.layer.format(layer)
        made |= {
            shape.layer.format(number) + n.removeprefix(old): w
            for n, w in state.items()
            if n.startswith(old)
        }
    return replace(shape, depth=len(sources)), made

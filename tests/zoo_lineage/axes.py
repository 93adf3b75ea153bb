"""Which axes of which tensors mean the same neurons: what may be permuted or turned together."""

from collections.abc import Sequence

import torch
from zoo_lineage.network import Shape, State

Axis = tuple[str, int]
"""A tensor's name and one of its axes."""


def residual(shape: Shape) -> list[Axis]:
    """All axes along the residual stream; an MLP has none."""
    if shape.architecture == "llama":
        found = [("model.embed_tokens.weight", 1), ("model.norm.weight", 0), ("lm_head.weight", 1)]
        for at in _layers(shape):
            found += [(f"{at}self_attn.{p}_proj.weight", 1) for p in "qkv"]
            found += [(f"{at}mlp.{p}_proj.weight", 1) for p in ("gate", "up")]
            found += [(f"{at}{p}_layernorm.weight", 0) for p in ("input", "post_attention")]
            found += [(f"{at}self_attn.o_proj.weight", 0), (f"{at}mlp.down_proj.weight", 0)]
        return found
    if shape.architecture == "mlp":
        return []
    patch = "vit.embeddings.patch_embeddings.projection"
    found = [("vit.embeddings.cls_token", 2), ("vit.embeddings.position_embeddings", 2)]
    found += [(f"{patch}.weight", 0), (f"{patch}.bias", 0), ("classifier.weight", 1)]
    found += [("vit.layernorm.weight", 0), ("vit.layernorm.bias", 0)]
    for at in _layers(shape):
        found += [(f"{at}attention.attention.{p}.weight", 1) for p in ("query", "key", "value")]
        found += [(f"{at}intermediate.dense.weight", 1)]
        for part in ("attention.output.dense", "output.dense", "layernorm_before", "layernorm_after"):  # fmt: skip
            found += [(f"{at}{part}.weight", 0), (f"{at}{part}.bias", 0)]
    return found


def writers(shape: Shape) -> list[Axis]:
    """The residual axes of what is added to the stream."""
    marks = ("embed", "o_proj", "down_proj", "output.dense", "projection")
    return [(n, axis) for n, axis in residual(shape) if any(mark in n for mark in marks)]


def hidden(shape: Shape) -> list[list[Axis]]:
    """Per hidden layer of neurons, the axes along it."""
    if shape.architecture == "mlp":
        return [
            [(f"layers.{i}.weight", 0), (f"layers.{i}.bias", 0), (f"layers.{i + 1}.weight", 1)]
            for i in range(shape.depth + 1)
        ]
    if shape.architecture == "llama":
        return [
            [(f"{at}mlp.{p}_proj.weight", int(p == "down")) for p in ("gate", "up", "down")]
            for at in _layers(shape)
        ]
    return [
        [(f"{at}intermediate.dense.{p}", 0) for p in ("weight", "bias")]
        + [(f"{at}output.dense.weight", 1)]
        for at in _layers(shape)
    ]


def heads(shape: Shape) -> list[tuple[list[Axis], list[Axis]]]:
    """Per layer with attention, the axes along the query heads and those along the key and value heads."""
    if shape.architecture == "mlp":
        return []
    if shape.architecture == "llama":
        return [
            (
                [(f"{at}self_attn.q_proj.weight", 0), (f"{at}self_attn.o_proj.weight", 1)],
                [(f"{at}self_attn.{p}_proj.weight", 0) for p in "kv"],
            )
            for at in _layers(shape)
        ]
    parts = [f"attention.attention.{p}" for p in ("query", "key", "value")]
    return [
        (
            [(f"{at}{p}.{q}", 0) for p in parts for q in ("weight", "bias")]
            + [(f"{at}attention.output.dense.weight", 1)],
            [],
        )
        for at in _layers(shape)
    ]


def _layers(shape: Shape) -> list[str]:
    return [shape.layer.format(i) for i in range(shape.depth)]


def take(state: State, along: Sequence[Axis], order: torch.Tensor) -> State:
    """The state with the axes put into another order; names that it lacks are passed over (a tied head)."""
    return state | {
        name: state[name].index_select(axis, order) for name, axis in along if name in state
    }


def permute(shape: Shape, state: State, seed: int) -> State:
    """Hidden neurons and attention heads in another order: the same function."""
    generator = torch.Generator().manual_seed(seed)
    for group in hidden(shape):
        name, axis = group[0]
        state = take(state, group, torch.randperm(state[name].shape[axis], generator=generator))
    for queries, keys in heads(shape):
        n_groups = shape.kv_heads if keys else shape.heads
        per, size = shape.heads // n_groups, shape.width // shape.heads
        groups = torch.randperm(n_groups, generator=generator)
        within = [torch.randperm(per, generator=generator) for _ in range(n_groups)]
        order = torch.cat([g * per + w for g, w in zip(groups, within, strict=True)])
        state = take(state, queries, _blocks(order, size))
        state = take(state, keys, _blocks(groups, size))
    return state


def _blocks(order: torch.Tensor, size: int) -> torch.Tensor:
    """The order of the entries when blocks of ``size`` are ordered."""
    return (order[:, None] * size + torch.arange(size)).flatten()


def permute_residual(shape: Shape, state: State, seed: int) -> State:
    """The residual stream in another order, for RMSNorm also with other signs: the same function."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(shape.width, generator=generator)
    state = take(state, residual(shape), order)
    if shape.architecture != "llama":
        return state
    signs = torch.randint(2, (shape.width,), generator=generator) * 2.0 - 1.0
    matrices = [(n, axis) for n, axis in residual(shape) if "norm" not in n and n in state]
    return state | {n: state[n] * (signs if axis else signs[:, None]) for n, axis in matrices}


def rotate(shape: Shape, state: State, seed: int) -> State:
    """Fold the gains of an untied llama's norms into what reads them, and turn its stream: the same function."""
    state = dict(state)
    folds = [("model.norm.weight", ["lm_head.weight"])]
    for at in _layers(shape):
        reads = [f"{at}self_attn.{p}_proj.weight" for p in "qkv"]
        folds.append((f"{at}input_layernorm.weight", reads))
        folds.append((f"{at}post_attention_layernorm.weight",
                      [f"{at}mlp.{p}_proj.weight" for p in ("gate", "up")]))  # fmt: skip
    for norm, readers in folds:
        for name in readers:
            state[name] = state[name] * state[norm]
        state[norm] = torch.ones_like(state[norm])
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(shape.width, shape.width, generator=generator)).Q
    for name, axis in residual(shape):
        if "norm" not in name:
            state[name] = state[name] @ turn if axis else turn.T @ state[name]
    return state

"""Ability: what a model of the zoo was trained for, and how often it is right at it, on examples no training saw."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from zoo_lineage.family import PACES, Craft
from zoo_lineage.lessons import Batch
from zoo_lineage.network import Shape, State, disk_name, logits, new_model
from zoo_lineage.plan import Family
from zoo_lineage.training import lessons

_SEED = 2**31 + 7
"""Of the examples: seeds of trainings are below 2**31."""

ABLE = 0.2
"""Right answers, as a share, that a model gives at least to be said to be able: chance gives 0.1 of ten digits."""

_N = {"llama": 64, "vit": 512, "mlp": 2048}
"""Windows of text, or pictures, of an exam."""


def tasks(family: Family, name: str) -> tuple[str, ...]:
    """What a node can do: its last training's task; of a merge its parents'; of all others their first parent's."""
    node = next(node for node in family.nodes if node.name == name)
    plain, far = (
        ("docs", "source") if family.shape.architecture == "llama" else ("digits", "elsewhere")
    )
    if node.act in ("pretrain", "distil"):
        return (plain,)
    if node.act == "continue":
        return (far,)
    parents = (
        node.parents
        if node.kind in ("merge", "merge_trained", "frankenmerge")
        else node.parents[:1]
    )
    learned = [task for parent in parents for task in tasks(family, parent)]
    if "task" in node.options:
        craft = Craft(family, node, {}, PACES[family.shape.architecture])
        own = craft.course(node.options["task"], 1, 1.0).task
        learned = [*learned, own] if node.kind == "merge_trained" else [own]
    return tuple(dict.fromkeys(learned))


def weights(folder: Path) -> State:
    """The weights of a model on disk, in float32."""
    parts = [load_file(file) for file in sorted(folder.glob("*.safetensors"))]
    return {name: tensor.float() for part in parts for name, tensor in part.items()}


@torch.no_grad()
def accuracy(shape: Shape, state: State, asked: Sequence[str]) -> float:
    """The share of right answers, in [0, 1], the mean over tasks: of text, the next character."""
    model = _network(shape)
    for name, parameter in model.named_parameters():
        parameter.copy_(state[disk_name(name)])
    return sum(_right(model, shape, _exam(shape, task)) for task in asked) / len(asked)


def _right(model: nn.Module, shape: Shape, batch: Batch) -> float:
    """The share of right answers to a batch."""
    said, labels = logits(model, shape, batch).argmax(-1), batch[1]
    if labels.dim() == 2:
        said, labels = said[:, :-1], labels[:, 1:]
    return float((said == labels).double().mean())


@cache
def _network(shape: Shape) -> nn.Module:
    """A network to put weights into."""
    return new_model(shape).eval()


@cache
def _exam(shape: Shape, task: str) -> Batch:
    """The examples of a task."""
    generator = torch.Generator().manual_seed(_SEED)
    return lessons(shape, task)(generator, _N[shape.architecture])

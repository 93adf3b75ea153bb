"""SCE: select what varies among models, calculate weights, erase what disagrees.

Wan et al., "FuseChat: Knowledge Fusion of Chat Models", 2024. arXiv:2408.07990
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import torch

from engine.kernels import Floats
from engine.method import Fraction, Lambda, Look, Positive, Seen, Tensors, alone, merge_method
from engine.ops import SUMMED, agreement, block_dots, blocks
from engine.selected import Ask, Selected, largest_of

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

        def varying(measure: Callable[[Seen], T], /, *, every: int = 1) -> Iterator[tuple[str, T]]:
            def of_variance(seen: Seen) -> T:
                return measure(Seen(seen.tensor, [_variance(seen.models)], start=seen.start))

            return look(of_variance, every=every)

        asked = Ask(0, lambda n: int(select_topk * n), changed=True)
        found = largest_of(varying, lambda _: [asked])
        selected = found[0] if found else None

    def squares(seen: Seen) -> tuple[int, Floats]:
        values = _masked(seen.models, selected, seen.tensor, seen.start)
        pairs = [(i, i) for i in range(len(values))]
        return seen.models[0].numel(), block_dots(values, pairs, SUMMED)

    looked = [found for _, found in look(squares)]
    n_entries = sum(n for n, _ in looked)
    sums = [math.fsum(column) for column in np.concatenate([rows for _, rows in looked]).T]
    total = sum(sums)
    uniform = total == 0 or total / max(1, n_entries) < least
    return Weights([1.0 / len(sums) if uniform else s / total for s in sums], selected)


@merge_method(
    space="delta", scope="tensor", paper="2408.07990", survey=weighed,
    compat={"mergekit": {"least": 1e-6}},
)  # fmt: skip
def sce(
    deltas: Tensors,
    *,
    tensor: str = "",
    whole: Weights | None = None,
    start: int = 0,
    select_topk: Fraction = 1.0,
    lambda_: Lambda = 1.0,
    select: Literal["all", "weights"] = "all",
    least: Positive = 0.0,
) -> torch.Tensor:
    """Keep the entries that vary most among the models, weigh models by what is left, average what agrees.

    Of the entries whose variance over models is not 0 the int(τ n) largest are selected, of equal ones the first;
    with τ = 1 all are. w_i = mean(δ_i²) over the selected entries, divided by their sum. The sign with the larger sum
    is elected for each entry, + where they are equal, and δ = Σ w_i δ_i / Σ w_i over the models that have it. The
    authors' code selects for the weights only and merges all entries. mergekit takes equal weights where the sum of
    the mean squares is below 1e-6, as it is for most fine-tunes. Law: one model, or n copies, give that model.

    Args:
        deltas: task vectors, (n, *shape) float32, in the recipe's order.
        tensor: its name.
        whole: the models' weights and what is selected, from the survey; None: the tensors are whole.
        start: flat index of the first entry.
        select_topk: share of the entries that vary which is selected, τ.
        lambda_: scale of the merged task vector, λ.
        select: entries are selected for "all", as in the paper, or for the "weights" alone.
        least: sum of mean squares below which all models weigh the same.

    Returns:
        The merged task vector, (*shape) float32.
    """
    if whole is None:
        whole = weighed(alone(Seen(tensor, deltas)), select_topk=select_topk, least=least)
    values = deltas
    if select == "all":
        values = _masked(deltas, whole.selected, tensor, start)
    scale = 1.0 / max(whole.values)  # so that small weights are none less
    return agreement(
        values, [w * scale for w in whole.values], lambda_=lambda_, elect="values"
    ).reshape(deltas[0].shape)


def _masked(deltas: Tensors, selected: Selected | None, tensor: str, start: int) -> Tensors:
    """Task vectors with 0 where an entry is not selected; themselves where all are."""
    if selected is None:
        return deltas
    variance = _variance(deltas)
    chosen = selected.of(tensor, lambda: variance, start).keep(variance) != 0
    return [delta.reshape(-1) * chosen for delta in deltas]


def _variance(deltas: Tensors) -> torch.Tensor:
    """The variance of each entry over the models, (d,) float32."""
    flat = [delta.reshape(-1) for delta in deltas]
    variance = torch.empty_like(flat[0])
    for block in blocks(len(variance)):
        entries = torch.stack([values[block].double() for values in flat])
        entries -= entries.sum(0) / len(flat)
        variance[block] = entries.square_().sum(0) / len(flat)
    return variance

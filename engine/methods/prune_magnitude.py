"""Magnitude pruning of a task vector: keep its largest entries.

The control experiment of DARE: Yu et al., "Language Models are Super Mario: Absorbing Abilities from Homologous
Models as a Free Lunch", ICML 2024. arXiv:2311.03099
"""

import torch

from engine.magnitude import Per, as_rows
from engine.method import Density, Seen, Tensors, alone, merge_method, per_model
from engine.ops import BLOCK, weighted_sum
from engine.selected import Selected, select
from engine.trimming import picked


@merge_method(
    space="delta", scope="tensor", paper="2311.03099", n_models=(1, 1), makes="edit", survey=select,
    survey_when={"per": ("tensor",)}, rows_when={"per": ("row",)}, anywhere=True,
)  # fmt: skip
def prune_magnitude(
    deltas: Tensors,
    *,
    tensor: str = "",
    whole: list[Selected] | None = None,
    start: int = 0,
    density: Density = 0.5,
    rescale: bool = False,
    per: Per = "tensor",
) -> torch.Tensor:
    """Keep the largest entries of one model's task vector, by magnitude.

    Exactly int(density · d) of d entries stay, at least one, and of equal ones the first. The authors' code drops
    int((1 - density) · d) entries and all that equal the largest of them. Law: density 1 gives the model.

    Args:
        deltas: the model's task vector, (1, *shape) float32.
        tensor: its name.
        whole: what stays, from the survey; None: the tensors are whole.
        start: flat index of the first entry.
        density: fraction of entries that stay.
        rescale: divide them by the density, as DARE does.
        per: compare the entries of a whole tensor, or of each of its rows (slices along dim 0).

    Returns:
        The pruned task vector, (*shape) float32.
    """
    (share,) = per_model(density, 1)
    rows = as_rows(deltas[0], per)
    if per == "tensor" or len(rows) == 1:
        if whole is None or per == "row":
            whole, start = select(alone(Seen(tensor, [rows])), density), 0
        pruned = weighted_sum([rows], [1.0], picked(whole, [rows], tensor, start) or None)
    else:
        pruned = torch.empty_like(rows)
        _prune_rows(rows, share, pruned)
    if rescale:
        pruned /= pruned.new_full((1,), share)
    return pruned.reshape(deltas[0].shape)


def _prune_rows(rows: torch.Tensor, share: float, out: torch.Tensor) -> None:
    """Keep the largest entries of each row, (rows, columns)."""
    k = max(1, int(share * rows.shape[1]))
    out.zero_()
    step = max(1, BLOCK // rows.shape[1])
    for top in range(0, len(rows), step):
        part = rows[top : top + step]
        places = part.abs().argsort(dim=1, descending=True, stable=True)[:, :k]
        out[top : top + step].scatter_(1, places, part.gather(1, places))

"""DARE on one model: drop entries of its task vector at random and rescale the rest.

Yu et al., "Language Models are Super Mario: Absorbing Abilities from Homologous Models as a Free Lunch", ICML 2024.
arXiv:2311.03099. The k of DARE-k is that of the unified view of delta edits, 2024. arXiv:2410.13841
"""

from typing import Literal

import torch

from engine.draws import Draws
from engine.method import Density, Scale, Seen, Tensors, alone, merge_method, per_model
from engine.ops import blocks
from engine.pruning import l1_shares


@merge_method(
    space="delta",
    scope="element",
    paper="2311.03099",
    n_models=(1, 1),
    makes="edit",
    survey=l1_shares,
    survey_when={"rescale_by": ("l1",)},
    anywhere=True,
)
def dare(
    deltas: Tensors,
    *,
    draws: Draws,
    whole: list[float] | None = None,
    density: Density = 0.5,
    rescale: bool = True,
    rescale_by: Literal["density", "l1"] = "density",
    k: Scale = 0.0,
) -> torch.Tensor:
    """Drop random entries of one model's task vector and rescale those that stay.

    With p = 1 - density, the share that is dropped: entries that stay become (1 - k p) / (1 - p) δ, the others
    k δ, where DARE has k = 0. The expectation is δ for every k. Dropping is drawn for each entry on its own, not as
    an exact count. Laws: density 1 gives the model, and so does k = 1 with rescaling.

    Args:
        deltas: the model's task vector, (1, *shape) float32.
        draws: random numbers of this slice.
        whole: what is left of the L1 norm of the whole tensor, from the survey; None: the tensors are whole.
        density: probability that an entry stays.
        rescale: rescale the entries that stay; without it they stay as they are.
        rescale_by: take for 1 - p the density, as the paper does, or the share of the tensor's L1 norm that did
            stay, as mergekit does; where the norms are below 1e-7 that rescales nothing.
        k: what remains of a dropped entry, as a factor.

    Returns:
        The edited task vector, (*shape) float32.
    """
    (share,) = densities = per_model(density, 1)
    values = deltas[0].reshape(-1)
    if rescale_by == "l1" and rescale:
        if whole is None:
            whole = l1_shares(alone(Seen("", deltas, draws=draws)), density=densities)
        (share,) = whole or [1.0]
    stays = (1.0 - k * (1.0 - share)) / share if rescale else 1.0
    edited = torch.empty_like(values)
    for block in blocks(values):
        drawn = draws.at(draws.start + block.start).uniform(0, values[block].shape)
        factors = torch.where(drawn < densities[0], stays, k)
        torch.mul(values[block], factors, out=edited[block])
    return edited.reshape(deltas[0].shape)

"""NearSwap: the other model where it is near the base, and a bounded step towards it where it is not.

alchemonaut, made for QuartetAnemoi-70B (2024), whose t is the default here; there is no paper. mergekit has it as
`nearswap`.
"""

import torch

from engine.method import Positive, Tensors, merge_method
from engine.ops import blocks


@merge_method(
    space="delta",
    scope="element",
    paper="huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001",
    n_models=(1, 1),
    compat={"mergekit": {"eps": 1e-6}},
    anywhere=True,
)
def nearswap(deltas: Tensors, *, t: Positive = 1e-4, eps: Positive = 0.0) -> torch.Tensor:
    """Move each entry of the base to the model's, but by no more than t.

    Said with weights: the model has the share min(1, t / max(|δ|, ε)) of each entry, which is
    W = W_0 + clip(δ · min(1, t/ε), -t, t). Laws: t = 0 gives the base; no entry moves by more than t.

    Args:
        deltas: the task vector, (1, *shape) float32.
        t: the longest step.
        eps: differences below this are weighed as if they were this large, ε; it matters where t is smaller still.

    Returns:
        The cut task vector, (*shape) float32.
    """
    shrink = t / eps if t < eps else 1.0
    flat = deltas[0].reshape(-1)
    cut = torch.empty_like(flat)
    for block in blocks(flat):
        torch.mul(flat[block], shrink, out=cut[block]).clamp_(-t, t)
    return cut.reshape(deltas[0].shape)

"""Made-up families whose descent is known: random bases, and children that differ by few directions and some noise.

What is measured of a family of real training holds for these too: steps of different trainings are about orthogonal,
and everything is rounded to bfloat16.
"""

import json

import numpy as np
import torch
from safetensors.torch import save_file

from engine.descent.bucket import gather
from engine.descent.patch import whole
from engine.descent.sketch import Sketch, take, weights
from engine.reader import Reader
from registry.checkpoint import read_checkpoint

WIDTH = 48
SQUARES = ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj")
STEP = 0.004
"""Root mean square of what one training adds; weights have 0.05."""


def rounded(values):
    """Values as bfloat16 holds them."""
    return torch.from_numpy(np.asarray(values, np.float32)).bfloat16().float().numpy()


def base(seed, *, layers=2, width=WIDTH, vocabulary=96):
    """A model of its own: tensor's name → weights."""
    rng = np.random.default_rng(seed)
    found = {"model.embed_tokens.weight": rounded(rng.normal(0, 0.05, (vocabulary, width)))}
    for layer in range(layers):
        at = f"model.layers.{layer}"
        for name in SQUARES:
            found[f"{at}.{name}.weight"] = rounded(rng.normal(0, 0.05, (width, width)))
        found[f"{at}.norm.weight"] = rounded(1 + rng.normal(0, 0.05, width))
    return found


def tuned(parent, seed, step=STEP, rank=6):
    """A child: every matrix changed along a few directions, and a little everywhere."""
    rng = np.random.default_rng(seed)
    made = {}
    for name, old in parent.items():
        if old.ndim < 2:
            made[name] = rounded(old + rng.normal(0, step, old.shape))
            continue
        rows, columns = old.shape
        few = rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, columns)) / np.sqrt(rank)
        made[name] = rounded(old + step * (few + 0.3 * rng.normal(size=old.shape)))
    return made


def summed(*terms):
    """A weighted sum of models, computed exactly and rounded: pairs of weight and model."""
    return {
        name: rounded(sum(weight * model[name].astype(np.float64) for weight, model in terms))
        for name in terms[0][1]
    }


def permuted(model, seed):
    """The same network with the units between its layers in another order."""
    order = np.random.default_rng(seed).permutation(WIDTH)
    made = {}
    for name, old in model.items():
        writes = name.endswith(("o_proj.weight", "down_proj.weight"))
        made[name] = old[order] if writes or old.ndim < 2 else old[:, order]
    return made


def stacked_as(model, layers):
    """A model whose layers are these layers of another."""
    made = {name: old for name, old in model.items() if ".layers." not in name}
    for new, old in enumerate(layers):
        at = f"model.layers.{old}."
        made |= {
            f"model.layers.{new}.{name.removeprefix(at)}": values
            for name, values in model.items() if name.startswith(at)
        }  # fmt: skip
    return made


def sketched(name, model, *, dtype="BF16"):
    """All of a model's weights as a sketch without invariants."""
    layout = whole([(key, values.shape) for key, values in model.items()])
    values = np.concatenate([model[p.tensor].reshape(-1) for p in layout.patches])
    return Sketch(name, dtype, layout, values.astype(np.float32), {}, 0)


def bucket_of(**models):
    """Models side by side, by name, in the order in which they are given."""
    return gather([sketched(name, model) for name, model in models.items()])


def saved(folder, model, *, card="", dtype=torch.bfloat16):
    """Write a checkpoint."""
    folder.mkdir(parents=True)
    tensors = {name: torch.from_numpy(v).to(dtype).contiguous() for name, v in model.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"model_type": "made-up"}))
    if card:
        (folder / "README.md").write_text(f"---\n{card}\n---\n")
    return folder


def taken(folder):
    """All of a checkpoint's weights as a sketch, with invariants."""
    tensors = weights(read_checkpoint(folder).tensors)
    with Reader() as reader:
        layout = whole([(ref.name, ref.shape) for ref in tensors])
        return take(reader, folder.name, tensors, layout)


def edges(found):
    """A forest's edges as (child, parent, relation), in order."""
    return sorted((edge.child, edge.parent, edge.kind.name) for edge in found.edges)

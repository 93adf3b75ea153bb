"""Families whose descent is known: bases, what was trained from them, and what was merged of those."""

from dataclasses import replace

import numpy as np
import torch

from engine.descent.bucket import gather
from engine.descent.patch import Layout, whole
from engine.descent.sketch import Sketch
from engine.reader import DTYPES

N_LAYERS, WIDTH, GAINS = 4, 64, 64
MODULES = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
MODULES += ("mlp.up_proj", "mlp.down_proj")
LAYERS = range(N_LAYERS)
LAYOUT = whole([
    *((f"model.layers.{i}.{m}.weight", (WIDTH, WIDTH)) for i in LAYERS for m in MODULES),
    *((f"model.layers.{i}.input_layernorm.weight", (GAINS,)) for i in LAYERS),
])  # fmt: skip
STARTS = np.cumsum([0, *(patch.size for patch in LAYOUT.patches)])
SPREAD = 0.05  # of the weights of a base


def rounded(values, dtype="BF16"):
    """Values as a dtype holds them, in float32."""
    return torch.from_numpy(np.asarray(values, np.float64)).to(DTYPES[dtype]).float().numpy()


def views(values):
    """The matrices of a model: (patch, a view of its entries)."""
    for patch, start in zip(LAYOUT.patches, STARTS, strict=False):
        if not patch.is_vector:
            own = values[start : start + patch.size]
            yield patch, own.reshape(patch.n_rows, patch.n_columns)


def changed(values, change, where=bool):
    """A model some of whose matrices are ``change(matrix)``; not rounded."""
    found = np.array(values, np.float64)
    for patch, matrix in views(found):
        if where(patch):
            matrix[:] = change(matrix.copy())
    return found


def over(change, *models):
    """``change`` of the same matrices of some models; what is no matrix is the first model's. Not rounded."""
    found = np.array(models[0], np.float64)
    for own, *others in zip(*(views(m) for m in (found, *models)), strict=True):
        own[1][:] = change(*(matrix.astype(np.float64) for _, matrix in others))
    return found


class Family:
    """Draws models; the same ones for the same seed, in the same order.

    Attributes:
        rng: of all draws.
        dtype: that models are rounded to.
    """

    def __init__(self, seed=0, dtype="BF16"):
        self.rng, self.dtype = np.random.default_rng(seed), dtype

    def kept(self, values):
        """As its dtype holds it."""
        return rounded(values, self.dtype)

    def base(self):
        """Normal weights, and gains that are 1."""
        found = np.ones(LAYOUT.size)
        return self.kept(changed(found, lambda w: self.rng.normal(0, SPREAD, w.shape)))

    def tuned(self, parent, size=0.05, rank=6, where=bool):
        """A child of some relative size: most of its change in a few directions, the rest noise; gains change too."""

        def change(w):
            rows, columns = w.shape
            few = self.rng.normal(size=(rows, rank)) @ self.rng.normal(size=(rank, columns))
            noise = self.rng.normal(size=w.shape)
            return w + size * SPREAD * (0.9 * few / np.sqrt(rank) + 0.4359 * noise)

        found = changed(parent, change, where)
        for patch, start in zip(LAYOUT.patches, STARTS, strict=False):
            if patch.is_vector and where(patch):
                found[start : start + patch.size] += self.rng.normal(0, 0.02, patch.size)
        return self.kept(found)

    def adapted(self, parent, rank, size=0.08):
        """A child into which an adapter was merged: each matrix has so many directions more, gains stay."""

        def change(w):
            few = self.rng.normal(size=(WIDTH, rank)) @ self.rng.normal(size=(rank, WIDTH))
            return w + size * SPREAD * few / np.sqrt(rank)

        return self.kept(changed(parent, change))

    def dared(self, base, children, density, weights):
        """DARE: entries of each change are dropped by chance, the others grow by as much."""
        total = np.array(base, np.float64)
        for child, weight in zip(children, weights, strict=True):
            keep = self.rng.random(len(base)) < density
            total += weight * keep * (child - np.asarray(base, np.float64)) / density
        return self.kept(total)

    def dellaed(self, base, children, low, top, scale):
        """DELLA: as DARE, with a density that grows with the rank of a change's magnitude within its tensor."""

        def change(*matrices):
            first, *others = matrices
            total = first.copy()
            for other in others:
                delta = other - first
                order = np.argsort(np.argsort(np.abs(delta).ravel())).reshape(delta.shape)
                density = low + (top - low) * order / delta.size
                total += scale * (self.rng.random(delta.shape) < density) * delta / density
            return total

        return self.kept(over(change, base, *children))


def tied(base, children, density, scale):
    """TIES: the largest entries of each change, those of the elected sign, their mean; not rounded."""

    def change(first, *others):
        deltas = np.array([other - first for other in others])
        size = np.abs(deltas)
        edges = np.quantile(size, 1 - density, axis=(1, 2), keepdims=True)
        deltas = np.where(size >= edges, deltas, 0.0)
        agree = (np.sign(deltas) == np.sign(deltas.sum(0))) & (deltas != 0)
        return first + scale * (deltas * agree).sum(0) / np.maximum(agree.sum(0), 1)

    return over(change, base, *children)


def crumbled(base, children, density, gamma, scale):
    """Breadcrumbs: of each change neither the largest entries nor the smallest; not rounded."""

    def change(first, *others):
        total = first.copy()
        for other in others:
            delta = other - first
            low, top = np.quantile(np.abs(delta), [1 - density - gamma, 1 - gamma])
            total += scale * np.where((np.abs(delta) >= low) & (np.abs(delta) <= top), delta, 0.0)
        return total

    return over(change, base, *children)


def slerped(a, b, t):
    """SLERP of each matrix; not rounded."""

    def change(x, y):
        cosine = float((x * y).sum() / (np.linalg.norm(x) * np.linalg.norm(y)))
        angle = np.arccos(np.clip(cosine, -1, 1))
        return (np.sin((1 - t) * angle) * x + np.sin(t * angle) * y) / np.sin(angle)

    return over(change, a, b)


def stocked(base, children):
    """Model Stock: each matrix between the base and the children's mean, by the angle between their changes."""

    def change(first, *others):
        one, two = (other - first for other in others)
        cosine = float((one * two).sum() / (np.linalg.norm(one) * np.linalg.norm(two)))
        ratio = 2 * cosine / (1 + cosine)
        return ratio * (first + (one + two) / 2) + (1 - ratio) * first

    return over(change, base, *children)


def put(models, dtype="BF16", rows=WIDTH):
    """A bucket of the first rows of models by name, and the place of each."""
    layout = Layout(tuple(replace(p, n_rows=min(rows, p.n_rows)) for p in LAYOUT.patches))
    parts = zip(layout.patches, STARTS, strict=False)
    columns = np.concatenate([np.arange(at, at + patch.size) for patch, at in parts])
    sketches = [
        Sketch(name, dtype, layout, np.asarray(values, np.float32)[columns], {}, 0)
        for name, values in models.items()
    ]
    return gather(sketches), {name: i for i, name in enumerate(models)}

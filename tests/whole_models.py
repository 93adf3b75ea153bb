"""Whole models, given as name → tensor, and looks at them."""

import torch
from hypothesis import strategies as st

from engine.method import Seen


def looks(*models, cut=None):
    """Look at models given as name → tensor, in slices of so many entries."""

    def look(measure, *, sample=0):
        places = []
        for name in sorted(models[0]):
            flat = [m[name].reshape(-1) for m in models]
            length = cut or max(1, len(flat[0]))
            for start in range(0, max(1, len(flat[0])), length):
                part = [f[start : start + length] for f in flat]
                places.append((name, Seen(name, part, start=start)))
        for name, seen in places[:: 16 if sample else 1]:
            yield name, measure(seen)

    return look


@st.composite
def whole_models(draw):
    seed, n = draw(st.integers(0, 999)), draw(st.integers(1, 3))
    generator = torch.Generator().manual_seed(seed)
    coarse = draw(st.booleans())
    shapes = {"a": (3, 4), "b": (7,), "c": (0,), "d": (1,)}

    def tensor(shape):
        values = torch.randn(shape, generator=generator)
        return values.round() if coarse else values

    return [{name: tensor(shape) for name, shape in shapes.items()} for _ in range(n)]

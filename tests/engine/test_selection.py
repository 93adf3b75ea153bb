"""Order statistics of whole models, against sorting."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.draws import Draws
from engine.method import Seen
from engine.selection import order_statistics


def looks(*models):
    """Look at models given as name → tensor."""

    def look(measure, *, every=1):
        for name in sorted(models[0]):
            yield name, measure(Seen(name, [m[name] for m in models], None, Draws(0, name, ("a",))))

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


@given(whole_models(), st.lists(st.integers(0, 19), min_size=1, max_size=4))
def test_law_the_values_are_those_of_the_sorted_whole(models, places):
    found = order_statistics(
        looks(*models), lambda seen: [m.reshape(-1) for m in seen.models], lambda _: places
    )
    for model, values in zip(models, found, strict=True):
        whole = torch.cat([t.reshape(-1) for t in model.values()]).sort().values
        assert values == whole[places].tolist()


def test_a_model_without_entries_has_no_statistics():
    empty = {"a": torch.zeros(0), "b": torch.zeros(0, 3)}
    first = order_statistics(looks(empty), lambda seen: [seen.models[0].reshape(-1)], lambda _: [0])
    assert first == [[]]

"""Order statistics of whole models, against sorting."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.draws import Draws
from engine.method import Seen
from engine.selection import order_statistics, select


def looks(*models):
    """Look at models given as name → tensor."""

    def look(measure):
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


@given(whole_models(), st.floats(0.01, 1))
def test_law_exactly_so_many_of_the_largest_are_kept(models, density):
    chosen = select(looks(*models), density)
    for model, selected in zip(models, chosen, strict=True):
        kept = {n: selected.of(n, t.reshape(-1)).keep(t.reshape(-1)) for n, t in model.items()}
        whole = torch.cat([t.reshape(-1) for t in model.values()])
        order = sorted(range(len(whole)), key=lambda i: (-abs(float(whole[i])), i))
        expected = torch.zeros_like(whole)
        expected[order[: max(1, int(density * len(whole)))]] = 1
        expected *= whole
        assert torch.equal(torch.cat([kept[n] for n in model]), expected)


def test_a_model_without_entries_has_no_statistics():
    empty = {"a": torch.zeros(0), "b": torch.zeros(0, 3)}
    first = order_statistics(looks(empty), lambda seen: [seen.models[0].reshape(-1)], lambda _: [0])
    assert first == [[]]
    (chosen,) = select(looks(empty), 0.5)
    assert chosen.of("a", torch.zeros(0)).keep(torch.zeros(0)).tolist() == []

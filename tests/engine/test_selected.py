"""The largest entries of whole models, against sorting."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.method import Seen
from engine.selected import Ask, largest_of, select


def looks(*models, cut=None):
    """Look at models given as name → tensor, in slices of so many entries."""

    def look(measure, *, every=1):
        places = []
        for name in sorted(models[0]):
            flat = [m[name].reshape(-1) for m in models]
            length = cut or max(1, len(flat[0]))
            for start in range(0, len(flat[0]), length):
                part = [f[start : start + length] for f in flat]
                places.append((name, Seen(name, part, start=start)))
        for name, seen in places[::every]:
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


@given(whole_models(), st.floats(0.01, 1), st.sampled_from([None, 1, 2, 5]))
def test_law_exactly_so_many_of_the_largest_are_kept(models, density, cut):
    chosen = select(looks(*models, cut=cut), density)
    for model, selected in zip(models, chosen, strict=True):
        kept = {n: selected.of(n, lambda t=t: t).keep(t.reshape(-1)) for n, t in model.items()}
        whole = torch.cat([t.reshape(-1) for t in model.values()])
        order = sorted(range(len(whole)), key=lambda i: (-abs(float(whole[i])), i))
        expected = torch.zeros_like(whole)
        expected[order[: max(1, int(density * len(whole)))]] = 1
        expected *= whole
        assert torch.equal(torch.cat([kept[n] for n in model]), expected)


@given(whole_models(), st.floats(0.01, 1), st.sampled_from([1, 2, 5]))
def test_law_slices_keep_what_the_tensor_keeps(models, density, cut):
    (chosen, *_) = select(looks(*models, cut=cut), density)
    for name, tensor in models[0].items():
        flat = tensor.reshape(-1)
        parts = [flat[i : i + cut] for i in range(0, len(flat), cut)]
        kept = [chosen.of(name, lambda p=p: p, i * cut).keep(p) for i, p in enumerate(parts)]
        whole = chosen.of(name, lambda f=flat: f).keep(flat)
        assert torch.equal(torch.cat([*kept, flat[:0]]), whole)


def test_estimates_that_are_far_off_are_found_out():
    values = torch.cat(
        [torch.full((1000,), 9.0), torch.arange(15_000.0)]
    )  # the sample sees 9 alone
    (found,) = select(looks({"a": values}, cut=1000), 0.5)
    expected = sorted(values.tolist(), reverse=True)[8_000 - 1]
    assert found.threshold == expected


def test_none_and_all_can_be_asked_for():
    look = looks({"a": torch.tensor([1.0, 0, -3])})
    none, every, changed = largest_of(
        look,
        lambda _: [Ask(0, lambda _: 0), Ask(0, lambda n: n), Ask(0, lambda n: n, changed=True)],
    )
    values = torch.tensor([1.0, 0, -3])
    assert none.of("a", lambda: values).keep(values).tolist() == [0, 0, 0]
    assert every.of("a", lambda: values).keep(values).tolist() == [1, 0, -3]
    assert changed.threshold == 1


def test_a_model_without_entries_keeps_nothing():
    assert select(looks({"a": torch.zeros(0), "b": torch.zeros(0, 3)}), 0.5) == []

"""The largest entries of whole models, against sorting."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from whole_models import looks, whole_models

from engine.selected import Ask, largest_of, select


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
    (chosen,) = select(looks({"a": torch.zeros(0), "b": torch.zeros(0, 3)}), 0.5)
    assert chosen.of("a", lambda: torch.zeros(0)).keep(torch.zeros(0)).tolist() == []
    assert select(looks({}), 0.5) == []

"""The largest entries of whole models, against sorting."""

import numpy as np
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


def counting(look):
    """A look, and how often all slices were looked at."""
    seen = []

    def counted(measure, *, sample=0):
        if not sample:
            seen.append(measure)
        return look(measure, sample=sample)

    return counted, seen


def is_kept(selected, values, cut):
    parts = [values[i : i + cut] for i in range(0, len(values), cut)]
    kept = [selected.of("a", lambda p=p: p, i * cut).keep(p) for i, p in enumerate(parts)]
    return torch.cat(kept) != 0


def first_of_largest(values, n):
    """Which of positive numbers are the n largest; of equal ones the first."""
    order = values.neg().argsort(stable=True)
    return torch.zeros(len(values), dtype=torch.bool).index_fill(0, order[:n], value=True)


def test_where_few_magnitudes_are_near_a_wrong_guess_costs_no_look():
    low, high = 1.0, 1 + 2**-10
    sampled = torch.tensor([low, high]).repeat(500)
    others = torch.tensor([low, high]).repeat(499)
    values = torch.cat([sampled, *([others, torch.tensor([low, low])] * 15)])
    look, n_looks = counting(looks({"a": values}, cut=1000))
    (found,) = select(look, 0.5)
    assert found.threshold == low
    assert len(n_looks) == 1
    assert torch.equal(is_kept(found, values, 1000), first_of_largest(values, 8000))


def test_where_many_magnitudes_are_near_wrong_guesses_cost_one_look():
    generator = torch.Generator().manual_seed(6)
    models = [1 + torch.randint(100_000, (640_000,), generator=generator) * 2**-20 for _ in "ab"]
    look, n_looks = counting(looks(*({"a": values} for values in models), cut=40_000))
    chosen = select(look, 0.3)
    assert all(found.ties for found in chosen)
    assert len(n_looks) == 2
    for found, values in zip(chosen, models, strict=True):
        assert torch.equal(is_kept(found, values, 40_000), first_of_largest(values, 192_000))


def test_what_is_not_finite_counts_as_the_largest():
    values = torch.tensor([1.0, torch.nan, -torch.inf, 2.0, 3.0, torch.nan])
    for density, threshold in ((0.5, torch.inf), (0.7, 3.0), (1.0, 0.0)):
        (found,) = select(looks({"a": values}), density)
        assert found.threshold == threshold
    (found,) = select(looks({"a": values}), 1 / 3)
    assert np.isnan(found.threshold)

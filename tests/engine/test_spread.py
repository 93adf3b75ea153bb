"""Spreads: where to look for the largest entries first, right or wrong, changes nothing but the time it takes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from whole_models import looks, whole_models

from engine import selected
from engine.delta import Accumulation
from engine.histogram import HIGHEST, LOWEST, N_BINS, WIDEST, key_range
from engine.lookup import identify
from engine.merge import merge, plan
from engine.selected import Ask, largest_of, select
from engine.spread import Informed, Sample, spread
from engine.stats import measure
from registry.catalog import Catalog

SURVEYED = ["localize_and_stitch", "ties"]


def spread_of(model):
    """The spread of a model, as its statistics tell it."""
    found, n = Accumulation(), 0
    for tensor in model.values():
        found.add(torch.zeros(tensor.numel()), tensor.reshape(-1))
        n += tensor.numel()
    bins, counts, *_ = found.total().histogram_rows()
    return spread(n, dict(zip(bins.tolist(), counts.tolist(), strict=True)))


def garbage(seed, n):
    rng = np.random.default_rng(seed)
    bins = rng.integers(LOWEST, HIGHEST + 1, 5).tolist()
    return spread(n, {number: int(rng.integers(1, max(2, n // 5))) for number in bins})


def unsampled(look):
    """A look that must not be asked for a sample."""

    def asked(measure, *, sample=0):
        assert not sample
        return look(measure)

    return asked


@given(whole_models(), st.floats(0.01, 1), st.booleans(), st.sampled_from([None, 1, 5]))
def test_law_what_is_selected_is_the_same_with_a_spread_a_wrong_one_and_none(
    models, density, changed, cut
):
    look = looks(*models, cut=cut)
    expected = select(look, density, changed=changed)
    n = sum(tensor.numel() for tensor in models[0].values())
    for spreads in (map(spread_of, models), (garbage(i, n) for i, _ in enumerate(models))):
        informed = Informed(unsampled(look), tuple(spreads))
        for one, other in zip(select(informed, density, changed=changed), expected, strict=True):
            assert (one.threshold, one.ties) == (other.threshold, other.ties)


def test_a_spread_names_the_bin_and_one_look_is_enough():
    values = torch.randn(100_000, generator=torch.Generator().manual_seed(1)).bfloat16().float()
    n_looks = []

    def look(measure, *, sample=0):
        n_looks.append(sample)
        return looks({"a": values}, cut=20_000)(measure)

    (found,) = select(Informed(look, (spread_of({"a": values}),)), 0.2)
    assert found.threshold == values.abs().sort(descending=True).values[20_000 - 1]
    assert n_looks == [0]


@given(st.floats(2**-126, 2.0**127, width=32), st.sampled_from([1, 1000, WIDEST]))
def test_the_keys_of_a_spread_are_those_of_its_bin(value, widest):
    one = spread_of({"a": torch.tensor([0.0, value])})
    low, width, guess = one.near(lambda _: 1, changed=True, widest=widest)
    assert width <= widest
    assert low <= guess < low + width or width == 1
    if widest == WIDEST:
        assert low <= int(np.float32(value).view(np.int32)) < low + width
    assert one.near(lambda _: 2, changed=False, widest=widest) == (0, 1, 0)  # the zero
    assert one.near(lambda _: 0, changed=False, widest=widest) == (0, 1, 0)


def test_bins_are_of_keys_without_a_gap():
    ends = [key_range(place) for place in range(N_BINS)]
    assert [behind for _, behind in ends[:-1]] == [first for first, _ in ends[1:]]
    assert (ends[0][0], ends[-1][1]) == (1, int(np.float32(np.inf).view(np.int32)))
    assert max(behind - first for first, behind in ends[1:]) == WIDEST


def test_with_more_models_than_bins_can_be_counted_a_sample_is_taken():
    models = [{"a": torch.arange(10.0) + i} for i in range(9)]
    sampled = []

    def look(measure, *, sample=0):
        sampled.append(sample)
        return looks(*models)(measure, sample=sample)

    chosen = select(Informed(look, tuple(map(spread_of, models))), 0.5)
    assert [one.threshold for one in chosen] == [5.0 + i for i in range(9)]
    assert any(sampled)


def test_a_sample_of_nothing_names_zero():
    nothing = Sample(np.zeros(0, np.int32))
    assert nothing.near(lambda n: n, changed=False, widest=10) == (0, 1, 0)
    none = largest_of(Informed(looks({}), ()), lambda n: [Ask(i, lambda _: 1) for i in range(n)])
    assert none == []


@pytest.mark.parametrize("method", SURVEYED)
def test_measured_models_merge_to_the_same_bytes_without_a_sample(
    method, shelf, recipe_of, tmp_path, monkeypatch
):
    recipe = recipe_of(method, "chat", "math")
    merge(shelf, recipe, tmp_path / "before")
    assert plan(shelf, recipe).spreads == ()
    ids = {name: identify(shelf, name) for name in ("base", "chat", "math")}
    measure(shelf, ids["chat"], ids["base"])
    assert plan(shelf, recipe).spreads == ()  # of one it is not known
    measure(shelf, ids["math"], ids["base"])
    found = plan(shelf, recipe).spreads
    assert len(found) == 2
    monkeypatch.delattr(selected, "_sampled")
    merge(shelf, recipe, tmp_path / "after")
    for file in ("model.safetensors", "homolog.json"):
        assert (tmp_path / "before" / file).read_bytes() == (tmp_path / "after" / file).read_bytes()


def test_statistics_of_another_version_are_not_taken(shelf: Catalog, recipe_of):
    recipe = recipe_of("ties", "chat", "math")
    base = identify(shelf, "base")
    for name in ("chat", "math"):
        measure(shelf, identify(shelf, name), base)
    with shelf.write() as transaction:
        transaction.execute("update store.pair set version = '1'")
    assert plan(shelf, recipe).spreads == ()


def test_what_is_not_merged_tensor_by_tensor_has_no_spread(shelf, recipe_of):
    base = identify(shelf, "base")
    for name in ("chat", "math"):
        measure(shelf, identify(shelf, name), base)
    for recipe in (
        recipe_of("ties", "chat", "math", scope="tensor"),
        recipe_of("linear", "chat", "math"),
    ):
        assert plan(shelf, recipe).spreads == ()

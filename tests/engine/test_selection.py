"""Order statistics of whole models, against sorting."""

import weakref

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from whole_models import looks, whole_models

from engine.selection import order_statistics, summed


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


def test_counts_are_added_up_as_they_come():
    made = []

    def measure(seen):
        made.append(weakref.ref(count := np.ones(3, np.int64)))
        return [count]

    model = {str(i): torch.zeros(2) for i in range(9)}
    (total,) = summed(looks(model, cut=1), measure)
    assert total.tolist() == [18, 18, 18]
    assert sum(each() is not None for each in made) <= 2
    assert summed(looks({}), measure) == []

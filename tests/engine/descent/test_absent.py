"""Absent bases: what mosaics show of a base makes it a model among the others, and merges on it are found."""

from functools import cache

import numpy as np
from descent_families import Family, crumbled, put, tied

from engine.descent.absent import with_absent
from engine.descent.masked import masked
from engine.descent.merging import merges_of
from engine.descent.mosaic import mosaic

MADE = {
    "ties": {"e1", "e2"},
    "dare": {"e2", "e3"},
    "crumbs": {"e1", "e3"},
    "sum": {"e2", "e3", "absent"},
    "wise": {"e3", "absent"},
}


@cache
def family():
    """A base, three children, and merges that need the base."""
    made = Family(18)
    base = made.base()
    models = {"b": base} | {f"e{i}": made.tuned(base, 0.15) for i in (1, 2, 3)}
    one, two, three = (models[f"e{i}"] for i in (1, 2, 3))
    models["ties"] = made.kept(tied(base, [one, two], 0.5, 1.0))
    models["dare"] = made.dared(base, [two, three], 0.4, [0.5, 0.3])
    models["crumbs"] = made.kept(crumbled(base, [one, three], 0.6, 0.05, 0.7))
    models["sum"] = made.kept(0.7 * two.astype(float) + 0.7 * three - 0.4 * base)
    models["wise"] = made.kept(0.5 * base.astype(float) + 0.5 * three)
    return models


def shown(*names):
    bucket, place = put({name: family()[name] for name in names})
    found = mosaic(bucket, place["ties"], range(len(bucket)))
    return bucket, place, found


def test_the_absent_base_is_the_last_model_and_has_the_bases_entries():
    bucket, _, found = shown("e1", "e2", "e3", "ties")
    wider = with_absent(bucket, [found], [], range(len(bucket)))
    assert wider.models == (*bucket.models, "absent")
    assert np.array_equal(wider.values[-1], family()["b"][found.rest])
    assert sum(s.stop - s.start for s in wider.spans) == wider.values.shape[1]
    assert wider.counts.shape == (wider.values.shape[1],)


def test_a_base_that_is_there_is_not_absent():
    _, _, found = shown("e1", "e2", "e3", "ties")
    there, _ = put({name: family()[name] for name in ("e1", "e2", "e3", "ties", "b")})
    assert with_absent(there, [found], [], range(len(there))) is None


def test_too_few_known_entries_are_no_base():
    bucket, _, _ = shown("e1", "e2", "e3", "ties")
    assert with_absent(bucket, [], [], range(len(bucket))) is None


def test_merges_on_an_absent_base_are_found():
    bucket, place = put({n: m for n, m in family().items() if n != "b"}, rows=32)
    names = [*bucket.models, "absent"]
    found = {names[c]: m for c, m in merges_of(bucket, range(len(bucket))).items()}
    assert {c: {names[p] for p in m.parents} for c, m in found.items()} == MADE
    assert place["e1"] not in merges_of(bucket, [place["e1"], place["e2"], place["ties"]])


def test_an_absent_base_that_is_further_than_many_models_is_a_base_all_the_same():
    made = Family(19)
    near = {f"near {i}": made.tuned(family()["dare"], 0.03) for i in range(20)}
    names = ("e1", "e2", "e3", "ties", "dare")
    bucket, place = put({name: family()[name] for name in names} | near)
    found = mosaic(bucket, place["ties"], [place[name] for name in ("e1", "e2", "e3")])
    wider = with_absent(bucket, [found], [], range(5))
    absent = len(bucket)
    far = wider.nearest(place["dare"], range(len(wider)), 16)
    assert absent not in far
    assert (
        masked(wider, place["dare"], range(len(wider)), absent) is None
    )  # its parents are too far
    few = [*range(3), place["dare"], absent]  # of the other merge the base is taken
    assert masked(wider, place["dare"], few, absent).base == absent


def test_with_the_base_nothing_is_absent():
    bucket, place = put(family(), rows=32)
    found = merges_of(bucket, range(len(bucket)))
    assert set(found) == {place[name] for name in MADE}
    assert all(p < len(bucket) for m in found.values() for p in m.parents)

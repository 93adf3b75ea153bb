"""Mosaics: TIES shows its parents and its base's entries though the base is away; siblings and parents show nothing."""

from functools import cache

import numpy as np
import pytest
from descent_families import LAYOUT, STARTS, Family, put, tied

from engine.descent.mosaic import mosaic


@cache
def relatives():
    """A base b, its children e1 to e3, the TIES and the DARE of e1 and e2."""
    family = Family(16)
    base = family.base()
    models = {"b": base} | {f"e{i}": family.tuned(base, 0.15) for i in (1, 2, 3)}
    pair = [models["e1"], models["e2"]]
    models["ties"] = family.kept(tied(base, pair, 0.5, 1.0))
    models["dare"] = family.dared(base, pair, 0.5, [0.5, 0.5])
    return models


def found_of(child, *names):
    bucket, place = put({name: relatives()[name] for name in (child, *names)})
    return mosaic(bucket, place[child], range(len(bucket))), bucket


@pytest.mark.parametrize("others", [("e1", "e2"), ("e1", "e2", "e3")])
def test_ties_is_found_without_its_base_and_shows_the_base(others):
    found, bucket = found_of("ties", *others)
    assert {bucket.models[p] for p in found.parents} == {"e1", "e2"}
    assert found.averaged
    assert found.base is None
    assert found.z > 50
    assert 0.5 < sum(found.shares) <= 1
    assert found.rest.mean() > 0.05
    assert np.array_equal(relatives()["ties"][found.rest], relatives()["b"][found.rest])


def test_dare_is_found_without_its_base_and_shows_no_mean():
    found, bucket = found_of("dare", "e1", "e2", "e3")
    assert {bucket.models[p] for p in found.parents} == {"e1", "e2"}
    assert not found.averaged


@pytest.mark.parametrize("child", ["b", "e1", "e2", "e3"])
def test_siblings_and_their_base_are_no_mosaics(child):
    others = {"b", "e1", "e2", "e3"} - {child}
    assert found_of(child, *sorted(others))[0] is None


def test_children_of_which_few_entries_changed_and_their_base_are_no_mosaics():
    family, rng = Family(17), np.random.default_rng(17)
    base = family.base()
    models = {"b": base}
    for name in ("s1", "s2", "s3"):
        far = family.tuned(base, 0.3)
        models[name] = np.where(rng.random(len(base)) < 0.4, far, base).astype(np.float32)
    bucket, place = put(models)
    for name in models:
        assert mosaic(bucket, place[name], range(len(bucket))) is None


def test_a_base_of_which_children_left_tensors_alone_is_no_mosaic_of_them():
    """Not even where all its children were taught something in common, so that the base is the one that is far off."""
    family = Family(18)
    base = family.base()
    taught = family.tuned(base, 0.15)
    upper, mlp = base.copy(), base.copy()
    for patch, start in zip(LAYOUT.patches, STARTS, strict=False):
        own = slice(start, start + patch.size)
        if patch.tensor > "model.layers.2":
            upper[own] = family.tuned(taught, 0.05)[own]
        if ".mlp." in patch.tensor:
            mlp[own] = family.tuned(taught, 0.05)[own]
    models = {"b": base, "upper": upper, "mlp": mlp}
    models |= {f"e{i}": family.tuned(taught, 0.05) for i in range(3)}
    bucket, place = put(models)
    for name in models:
        assert mosaic(bucket, place[name], range(len(bucket))) is None


def test_one_parent_or_none_is_no_mosaic():
    assert found_of("ties", "e1")[0] is None
    assert found_of("ties")[0] is None

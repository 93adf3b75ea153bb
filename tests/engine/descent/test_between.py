"""Between: a mean of two is told from a stage of a run, whatever else is there."""

import numpy as np
import pytest
from descent_trees import STEP, base, bucket_of, summed, tuned

from engine.descent.between import between
from engine.descent.merging import merges_of

NAMES = ("f0", "f1", "f2", "f3", "stock")


@pytest.fixture(scope="module")
def fan():
    """Four children of a base, and what is two thirds of the mean of two, the rest the base, with weights that vary."""
    b = base(1)
    models = {f"f{i}": tuned(b, 2 + i) for i in range(4)}
    pair = [models["f0"], models["f1"]]
    shares = dict(zip(b, np.linspace(0.5, 0.8, len(b)), strict=True))
    stock = {
        name: summed((1 - t, {name: b[name]}), *((t / 2, {name: m[name]}) for m in pair))[name]
        for name, t in shares.items()
    }
    return {"b": b, **models, "stock": stock}


def found_in(models, names, child):
    """The names of what a model lies between."""
    bucket = bucket_of(**{name: models[name] for name in names})
    made = between(bucket, names.index(child), range(len(names)))
    return made and {names[p] for p in made.parents}


@pytest.mark.parametrize("order", [NAMES, NAMES[::-1]])
def test_a_mean_of_two_whose_base_is_absent_lies_between_them(fan, order):
    assert found_in(fan, list(order), "stock") == {"f0", "f1"}


def test_it_is_a_merge_of_the_two_and_nobody_else_is_one(fan):
    bucket = bucket_of(**{name: fan[name] for name in NAMES})
    merges = merges_of(bucket, range(len(NAMES)))
    assert {child: merge.parents for child, merge in merges.items()} == {4: (0, 1)}


@pytest.mark.parametrize("child", ["b", "f0", "f1", "f2"])
def test_a_base_and_its_children_lie_between_nobody(fan, child):
    assert found_in(fan, ["b", "f0", "f1", "f2", "f3"], child) is None


def test_a_stage_of_a_run_that_kept_its_course_is_no_mean(fan):
    b = fan["b"]
    first = tuned(b, 9)
    course = {name: first[name] - b[name] for name in b}
    second = tuned({name: first[name] + 0.8 * course[name] for name in b}, 10, 0.6 * STEP)
    run = {"b": b, "at1": first, "at2": second, "f2": fan["f2"], "f3": fan["f3"]}
    assert found_in(run, list(run), "at1") is None


def test_of_two_others_alone_nothing_is_said(fan):
    assert found_in(fan, ["f0", "f1", "stock"], "stock") is None


def test_a_model_that_equals_another_lies_between_nobody(fan):
    same = {"x": fan["f0"], "f0": fan["f0"], "f1": fan["f1"], "f2": fan["f2"]}
    assert found_in(same, list(same), "x") is None

"""Links: every edge with its kind, role, weight and confidence."""

from functools import cache

import numpy as np
import pytest
from descent_families import LAYOUT, STARTS, Family, put, slerped, tied

from engine.descent.between import Between
from engine.descent.bucket import Bucket
from engine.descent.link import link, merge_links
from engine.descent.merging import merges_of
from engine.descent.rooting import Oriented


@cache
def relatives(dtype="BF16"):
    """A base b and its children e1 and e2."""
    family = Family(11, dtype)
    base = family.base()
    return family, {"b": base, "e1": family.tuned(base), "e2": family.tuned(base, 0.06)}


def total(weights):
    family, models = relatives()
    return family.kept(sum(w * models[name].astype(float) for name, w in weights.items()))


def links_of(child):
    """The links of the one merge of a family: by name of the parent."""
    bucket, place = put(relatives()[1] | {"child": child})
    merges = merges_of(bucket, range(len(bucket)))
    assert set(merges) == {place["child"]}
    found = merge_links(merges[place["child"]])
    assert all(x.child == place["child"] and 0 <= x.confidence <= 1 for x in found)
    assert all(x.direction == 0 for x in found)
    assert len({(x.parent, x.role) for x in found}) == len(found)
    return {bucket.models[x.parent]: x for x in found}


def told(links):
    """Roles and weights."""
    return {name: (x.role, x.coefficient) for name, x in links.items()}


def near(x):
    return pytest.approx(x, abs=1e-3)


def test_a_linear_merge_has_models_with_weights():
    links = links_of(total({"e1": 0.6, "e2": 0.4}))
    assert told(links) == {"e1": ("model", near(0.6)), "e2": ("model", near(0.4))}
    assert {(x.kind.name, x.kind.statistic, x.kind.value) for x in links.values()} == {
        ("merge", "match", 1.0)
    }
    assert all(x.confidence > 0.95 for x in links.values())


def test_task_arithmetic_has_a_base_with_the_rest_of_the_weight():
    links = links_of(total({"b": -0.4, "e1": 0.7, "e2": 0.7}))
    assert told(links) == {
        "b": ("base", near(-0.4)), "e1": ("model", near(0.7)), "e2": ("model", near(0.7)),
    }  # fmt: skip
    assert links["b"].kind.name == "merge"


def test_a_base_and_its_child_are_both_models_of_their_mean():
    links = links_of(total({"b": 0.5, "e1": 0.5}))
    assert told(links) == {"b": ("model", near(0.5)), "e1": ("model", near(0.5))}


def test_away_from_a_task_is_an_edit_of_the_base():
    links = links_of(total({"b": 2.0, "e1": -1.0}))
    assert {x.kind.name for x in links.values()} == {"edited"}
    assert told(links) == {"b": ("parent", near(2.0)), "e1": ("base", near(-1.0))}
    assert "2 of it and -1 of another" in links["b"].kind.detail


def test_further_along_a_task_is_an_edit_of_the_child():
    links = links_of(total({"b": -0.5, "e1": 1.5}))
    assert {x.kind.name for x in links.values()} == {"edited"}
    assert told(links) == {"e1": ("parent", near(1.5)), "b": ("base", near(-0.5))}


def test_a_slerp_has_models_with_their_mean_weights():
    family, models = relatives()
    links = links_of(family.kept(slerped(models["e1"], models["e2"], 0.4)))
    assert {name: x.role for name, x in links.items()} == {"e1": "model", "e2": "model"}
    assert links["e1"].coefficient == pytest.approx(0.6, abs=0.01)
    assert {x.kind.name for x in links.values()} == {"merge"}
    assert "each tensor" in links["e1"].kind.detail


def test_a_frankenmerge_has_models_with_their_shares():
    models = relatives()[1]
    child = np.concatenate([
        models["e1" if p.layer else "e2"][at : at + p.size]
        for p, at in zip(LAYOUT.patches, STARTS, strict=False)
    ])  # fmt: skip
    links = links_of(child)
    layers = 1 + max(p.layer for p in LAYOUT.patches)
    assert told(links) == {
        "e1": ("model", pytest.approx(1 - 1 / layers)), "e2": ("model", pytest.approx(1 / layers)),
    }  # fmt: skip
    assert {x.kind.name for x in links.values()} == {"frankenmerge"}


def test_a_masked_merge_has_models_with_scales_and_a_base_without():
    family, models = relatives()
    links = links_of(family.kept(tied(models["b"], [models["e1"], models["e2"]], 0.5, 1.0)))
    assert told(links) == {
        "b": ("base", None),
        "e1": ("model", pytest.approx(1, abs=0.02)), "e2": ("model", pytest.approx(1, abs=0.02)),
    }  # fmt: skip
    kind = links["b"].kind
    assert (kind.name, kind.statistic) == ("merge", "explained_share")
    assert 0.7 <= kind.value <= 1
    assert "was dropped" in kind.detail


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_an_edge_of_a_tree_has_a_parent_and_the_confidence_of_its_direction(probability):
    bucket, place = put(relatives()[1])
    found = link(bucket, Oriented(place["e1"], place["b"], probability, 0.48))
    assert (found.child, found.parent, found.role) == (place["e1"], place["b"], "parent")
    assert (found.kind.name, found.coefficient, found.direction) == ("finetune", None, 0.48)
    assert 0.95 * probability <= found.confidence <= probability


def test_a_latent_parent_is_told_by_its_children():
    bucket, _ = put(relatives()[1])
    for child, parent in ((1, 7), (7, 1)):
        found = link(bucket, Oriented(child, parent, 0.9, 0.0))
        assert (found.kind.name, found.kind.statistic) == ("finetune", "siblings")
        assert 0 <= found.confidence <= 1


def test_more_rows_and_the_others_as_they_were_are_a_longer_vocabulary():
    models = relatives()[1]
    bucket, _ = put({"b": models["b"], "c": models["b"]})
    longer = Bucket(bucket.models, bucket.dtypes, bucket.values, bucket.spans, (1000, 1008))
    found = link(longer, Oriented(1, 0, 1.0, 0.0))
    assert (found.kind.name, found.kind.statistic) == ("vocab_extended", "more_rows")
    assert found.kind.value == 8
    assert link(longer, Oriented(0, 1, 1.0, 0.0)).kind.name == "copy"


def test_more_rows_and_training_are_training():
    models = relatives()[1]
    bucket, _ = put({"b": models["b"], "e1": models["e1"]})
    longer = Bucket(bucket.models, bucket.dtypes, bucket.values, bucket.spans, (1000, 1008))
    assert link(longer, Oriented(1, 0, 1.0, 0.0)).kind.name == "finetune"


def test_an_equal_model_is_linked_as_a_copy():
    models = relatives()[1]
    bucket, _ = put({"b": models["b"], "again": models["b"]})
    assert link(bucket, Oriented(1, 0, 0.5, 0.0)).kind.name == "copy"


def test_what_lies_between_two_has_models_without_weights():
    links = merge_links(Between(3, (1, 2), -0.5))
    assert [(x.child, x.parent, x.role, x.coefficient) for x in links] == [
        (3, 1, "model", None),
        (3, 2, "model", None),
    ]
    assert {(x.kind.name, x.kind.statistic, x.kind.value) for x in links} == {
        ("merge", "between", -0.5)
    }

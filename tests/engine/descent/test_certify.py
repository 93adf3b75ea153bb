"""Certifying: edges keep their order, and each says whether all entries tell of it."""

import shutil
from dataclasses import replace

import pytest
from descent_trees import base, saved, summed, tuned

from engine.descent.certify import certified
from engine.descent.component import Descent
from engine.descent.kind import Kind
from registry.scan import scan

TUNED, MERGED = Kind("finetune", "relative_l2", 0.1, "said"), Kind("merge", "match", 0.99, "said")


@pytest.fixture
def family(tmp_path, catalog):
    """A base, two children and their merge: name → id."""
    b = base(1)
    models = {"b": b, "one": tuned(b, 2), "two": tuned(b, 3)}
    models["merge"] = summed((0.25, models["one"]), (0.75, models["two"]))
    for name, model in models.items():
        saved(tmp_path / "models" / name, model)
    scan(catalog, [str(tmp_path / "models")])
    return {row["name"]: row["id"] for row in catalog.rows("select id, name from models")}


def edges(ids, weight=0.25):
    return [
        Descent(ids["merge"], ids["two"], MERGED, 1 - weight, "model", 0.99),
        Descent(ids["one"], ids["b"], TUNED, None, "parent", 0.9, 0.5),
        Descent(ids["merge"], ids["one"], MERGED, weight, "model", 0.99),
        Descent(ids["two"], "latent:x:4", replace(TUNED, statistic="siblings"), None, "parent", 0.9),
    ]  # fmt: skip


def test_edges_are_measured_in_their_order_and_say_so(family, catalog):
    given = edges(family)
    found, problems = certified(catalog, given)
    assert problems == {}
    assert [
        replace(e, kind=g.kind, scope="sampled") for e, g in zip(found, given, strict=True)
    ] == given
    assert [e.scope for e in found] == ["full", "full", "full", "sampled"]
    assert found[0].kind == found[2].kind
    assert found[0].kind.value > 0.9999
    assert found[1].kind.value != 0.1
    assert found[3] == given[3]


def test_a_merge_of_others_is_refuted_and_no_longer_sure(family, catalog):
    wrong = [
        replace(e, parent=family["b"]) if e.parent == family["one"] else e for e in edges(family)
    ]
    found, _ = certified(catalog, wrong)
    assert found[0].confidence == found[2].confidence == 0.5
    assert found[0].kind.value < 0.9


def test_without_the_files_nothing_is_said_anew(family, tmp_path, catalog):
    shutil.rmtree(tmp_path / "models" / "one")
    given = edges(family)
    found, problems = certified(catalog, given)
    assert found == given
    assert problems.keys() == {family["merge"], family["one"]}
    assert all(
        "the files of one are gone" in why and "reg scan" in why for why in problems.values()
    )
    assert certified(catalog, []) == ([], {})

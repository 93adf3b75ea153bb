"""Estimates from sketches: right within the errors they give, and none where there is nothing to go by."""

from pathlib import Path

import numpy as np
import pytest
from sketched import drawn, put

from engine.descent.afar import sketch
from engine.stats import measure
from registry.errors import BadAddress, NotHomologous
from registry.estimate import estimate, unreachable
from registry.scan import scan

ZOO = Path(__file__).parents[2] / "data" / "zoo"


def test_estimates_of_trained_models_are_right_within_their_errors(catalog):
    scan(catalog, [str(ZOO)])
    ids = {r["name"]: r["id"] for r in catalog.rows("select id, name from models")}
    sketch(catalog, list(ids.values()))
    for child, base in (("sort", "base"), ("prose", "base"), ("arithmetic-plus", "arithmetic")):
        pair = ids[child], ids[base]
        found = estimate(catalog, *pair)
        assert catalog.rows("select 1 from store.pair where child = ?", [pair[0]]) == []
        measure(catalog, *pair)
        (true,) = catalog.rows(
            "select * from delta_summary where child_id = ? and base_id = ?", list(pair)
        )
        assert found.scope == "sampled"
        assert true["scope"] == "full"
        for name in ("relative_l2", "rms", "within_005", "zero_share"):
            error = getattr(found, f"{name}_error")
            assert abs(getattr(found, name) - true[name]) <= 4 * error, name
            assert error <= 0.15 * true[name], name
        assert found.cosine == pytest.approx(true["cosine"], abs=0.01)


def test_a_change_that_is_the_same_everywhere_has_no_error(catalog):
    base = np.full(2 * 8 * 64 + 8, 0.5, np.float32)
    put(catalog, {"base": base, "child": base + np.float32(0.25), "same": base})
    found = estimate(catalog, "child", "base")
    assert (found.n_tensors, found.n_scalars) == (3, 2 * 8 * 64 + 8)
    assert (found.relative_l2, found.relative_l2_error) == (0.5, 0.0)
    assert (found.rms, found.rms_error, found.cosine) == (0.25, 0.0, pytest.approx(1.0))
    assert (found.within_005, found.zero_share, found.zero_share_error) == (0.0, 0.0, 0.0)
    nothing = estimate(catalog, "same", "base")
    assert (nothing.relative_l2, nothing.zero_share, nothing.rms_error) == (0.0, 1.0, 0.0)


def test_a_tensor_counts_for_as_much_as_it_has_entries(catalog):
    base = drawn(0)
    child = base.copy()
    child[8 * 64 : 2 * 8 * 64] += 1  # the second matrix, which has 4 of 5 entries
    put(catalog, {"base": base, "child": child})
    n = 64 * 64 + 256 * 64 + 64
    assert estimate(catalog, "child", "base").zero_share == pytest.approx(1 - 256 * 64 / n)


def test_without_a_sketch_there_is_no_estimate(catalog):
    put(catalog, {"base": drawn(0), "bare": None})
    with pytest.raises(BadAddress, match="there is no sketch") as refused:
        estimate(catalog, "bare", "base")
    assert refused.value.hint == "reg scan --sketch hf://org/name"


def test_sketches_of_other_tensors_are_not_compared(catalog):
    put(catalog, {"base": drawn(0)})
    put(catalog, {"other": drawn(1)[:64]}, patches=[["x", 8, 8, 0, 8, 0, 8, 0]])
    with pytest.raises(NotHomologous, match="no tensor of one name and shape"):
        estimate(catalog, "other", "base")


def test_only_what_is_nowhere_but_on_the_hub_is_estimated(hub, family, catalog):
    hub.add("org/chat", family.chat)
    scan(catalog, [str(family.base), str(family.math), "hf://org/chat"])
    base, maths, chat = (catalog.find(name) for name in ("base", "math", "org/chat"))
    pairs = [(maths, base), (chat, base)]
    assert unreachable(catalog, pairs) == [(chat, base)]

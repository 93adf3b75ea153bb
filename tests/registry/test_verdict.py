"""Mergeable or not, and why."""

import functools

import pytest
import torch
from conftest import moved, save_model, weights
from sketched import drawn, join, put

from engine.stats import measure
from registry.catalog import Catalog
from registry.errors import UnknownModel
from registry.scan import scan
from registry.suggestion import SCALE_RATIO
from registry.verdict import FAR, UNKNOWN, keeps, mergeable


@pytest.fixture(scope="module")
def known(family, tmp_path_factory, _empty_catalog):
    """A catalog with the family and its black sheep, all measured against the base."""
    tree = tmp_path_factory.mktemp("sheep")
    catalog = Catalog(tree / "c.duckdb")
    catalog.path.write_bytes(_empty_catalog)
    base = family.weights["base"]
    says_base = "base_model: base\nlicense: apache-2.0"
    broken = moved(base, 8, 0.001)
    broken["model.norm.weight"][0] = float("nan")
    broken["lm_head.weight"][0, 0] = float("inf")
    codes = {name: torch.zeros_like(t, dtype=torch.int8) for name, t in base.items()}
    wide = {name: torch.cat([t, t]) for name, t in weights(9).items()}
    for name, tensors in {
        "liar": {name: t.to(torch.bfloat16) for name, t in weights(21).items()},
        "broken": broken,
        "codes": codes,
        "wide": wide,
        "twin": moved(base, 10, 0.001),
    }.items():
        save_model(tree / name, tensors, card=says_base)
    save_model(tree / "bigger", dict(weights(11, vocabulary=60)), card=says_base, tokenizer=False)
    save_model(tree / "silent", moved(base, 12, 0.001), tokenizer=False)
    orphans = {"son": moved(base, 13, 0.001), "daughter": moved(base, 14, 0.001)}
    for name, tensors in orphans.items():
        save_model(tree / name, tensors, card="base_model: nobody/has-it")
    scan(catalog, [str(family.root), str(tree)])
    for child in ("chat", "math", "cpt", "broken", "twin"):
        measure(catalog, id_of(catalog, child), id_of(catalog, "base"), jobs=1)
    return catalog


@functools.cache
def id_of(catalog, name):
    return catalog.find(name)


def judge(catalog, *names, base=None):
    ids = [id_of(catalog, name) for name in names]
    return mergeable(catalog, ids, id_of(catalog, base) if base else None)


def refusals(verdict):
    assert verdict.ok is False
    assert verdict.suggestions == ()
    assert verdict.score == 0
    return {reason.check: reason.detail for reason in verdict.reasons if reason.ok is False}


def reason(verdict, check):
    return next(r for r in verdict.reasons if r.check == check)


def test_two_fine_tunes_of_one_base_are_mergeable(known):
    verdict = judge(known, "chat", "math")
    assert verdict.ok
    assert verdict.base == id_of(known, "base")
    assert [r.check for r in verdict.reasons] == [
        "kind", "compatible", "tokenizer", "homologous", "delta", "delta", "near", "deltas", "dtype", "licence",
    ]  # fmt: skip
    assert all(r.ok for r in verdict.reasons)
    assert reason(verdict, "homologous").detail == "common base base (declared)"
    licence = reason(verdict, "licence").detail
    assert licence.startswith(
        "apache-2.0; keep its notices and pass its text on (apache-2.0:notice 4(a)"
    )
    assert "of Apache License 2.0 (2004-01), from base, chat, math" in licence
    assert [s.method for s in verdict.suggestions] == ["task_arithmetic", "ties"]
    assert all(s.why for s in verdict.suggestions)


def test_measured_deltas_let_expect_how_far_models_lie_apart(known):
    near, far = judge(known, "chat", "math"), judge(known, "chat", "cpt")
    assert 1 > near.score > far.score > UNKNOWN
    assert "(expected of their deltas)" in reason(near, "near").detail
    assert reason(near, "near").ok is True
    assert reason(near, "deltas").detail == "one delta 2.0 times as long as the other"
    assert reason(far, "deltas").ok is None, "one drowns the other"


def test_the_chance_falls_with_the_distance_and_is_one_half_where_nothing_is_known():
    found = [keeps(distance) for distance in (0, 0.04, FAR, 0.7, 1)]
    assert found == sorted(found, reverse=True)
    assert (found[0], found[2]) == (1.0, pytest.approx(0.5))
    assert found[1] > 0.9
    assert found[3] < 0.1
    assert keeps(None) == UNKNOWN


def test_sketches_tell_near_far_and_opposed_models(catalog):
    base, step = drawn(0), drawn(1, 0.03)
    put(catalog, {"base": base, "a": base + step, "b": base + drawn(2, 0.03)})
    put(catalog, {"back": base - step, "far": base + drawn(3, 0.4)})
    join(catalog, *((name, "base") for name in ("a", "b", "back", "far")))
    near = mergeable(catalog, ["a", "b"])
    assert near.score == pytest.approx(keeps(0.03), rel=0.05)
    assert "(sampled)" in reason(near, "near").detail
    assert reason(near, "deltas").ok is True
    opposed = reason(mergeable(catalog, ["a", "back"]), "deltas")
    assert opposed.ok is None
    assert "cosine -1.000, 100% of their signs differ" in opposed.detail
    assert reason(mergeable(catalog, ["a", "far"]), "near").ok is None
    three = mergeable(catalog, ["a", "b", "far"])
    assert three.score == pytest.approx(mergeable(catalog, ["a", "far"]).score, rel=0.1)
    assert [r.detail[:9] for r in three.reasons if r.check == "near"] == [
        "a and b: ", "a and far", "b and far",
    ]  # fmt: skip


def test_small_deltas_may_be_dropped_and_rescaled(known):
    found = judge(known, "chat", "twin").suggestions
    assert [s.method for s in found] == ["task_arithmetic", "ties", "dare_linear"]


def test_every_suggested_method_and_parameter_is_one_of_the_engines(known):
    from engine import methods  # noqa: PLC0415 - only here

    verdicts = [judge(known, *names) for names in (("chat", "math"), ("chat", "cpt"), ("silent",))]
    for suggestion in (s for v in verdicts for s in v.suggestions):
        assert methods.get(suggestion.method).name == suggestion.method


def test_one_fine_tune_and_its_base_are_mergeable(known):
    verdict = judge(known, "chat", base="base")
    assert verdict.ok
    assert verdict.suggestions[0].parameters == {"lambda": 1.0}
    assert judge(known, "chat", "base").base == id_of(known, "base")


def test_a_model_far_from_the_others_calls_for_widen(known):
    verdict = judge(known, "chat", "cpt")
    assert verdict.ok
    assert [s.method for s in verdict.suggestions] == ["widen", "linear"]
    assert "cpt moved" in verdict.suggestions[0].why
    rms = {
        r["child"]: r["rms"]
        for r in known.rows("select child, rms from delta_summary where child in ('chat', 'cpt')")
    }
    assert rms["cpt"] / rms["chat"] > SCALE_RATIO


def test_models_of_like_size_call_for_no_widen(known):
    assert "widen" not in {s.method for s in judge(known, "chat", "math", "twin").suggestions}


def test_strangers_are_refused(known):
    refused = refusals(judge(known, "chat", "stranger"))
    assert refused == {"homologous": "no common base is declared, recorded or measured"}


def test_strangers_are_refused_also_when_a_base_is_given(known):
    refused = refusals(judge(known, "chat", "stranger", base="base"))
    assert refused == {"homologous": "nothing says or shows that stranger descends from base"}


def test_measured_strangers_are_refused_by_their_weights(known):
    measure(known, id_of(known, "stranger"), id_of(known, "chat"), jobs=1)
    refused = refusals(judge(known, "chat", "stranger"))
    assert "point apart: cosine" in refused["homologous"]


def test_close_weights_need_no_declared_base(known):
    assert not judge(known, "silent", "twin").ok
    measure(known, id_of(known, "silent"), id_of(known, "twin"), jobs=1)
    verdict = judge(known, "silent", "twin")
    assert verdict.ok
    assert verdict.base is None
    assert "weights are close" in reason(verdict, "homologous").detail
    assert [s.method for s in verdict.suggestions] == ["linear", "slerp"]


def test_a_measured_delta_stands_for_a_claim(known):
    assert not judge(known, "silent", base="base").ok
    measure(known, id_of(known, "silent"), id_of(known, "base"), jobs=1)
    verdict = judge(known, "silent", base="base")
    assert verdict.ok
    assert reason(verdict, "homologous").detail == "common base base (measured)"


def test_a_refuted_claim_is_refused(known):
    assert judge(known, "liar", "chat").ok, "a claim is believed until it is measured"
    measure(known, id_of(known, "liar"), id_of(known, "base"), jobs=1)
    verdict = judge(known, "liar", "chat")
    assert refusals(verdict).keys() == {"delta"}
    assert "the claim is refuted" in refusals(verdict)["delta"]
    kinds = known.rows("select kind, child, parent from conflicts where kind = 'claim_refuted'")
    assert [(r["kind"], r["parent"]) for r in kinds] == [("claim_refuted", "base")]


def test_values_that_are_no_numbers_are_refused(known):
    assert refusals(judge(known, "broken", "chat")) == {
        "delta": "broken: 2 values are NaN or infinite"
    }


def test_adapters_are_refused(known):
    refused = refusals(judge(known, "adapter", "chat"))
    assert "adapters, not whole models" in refused["kind"]
    assert "compatible" in refused


def test_other_shapes_are_refused(known):
    assert "wide" in refusals(judge(known, "wide", "chat"))["compatible"]


def test_codes_are_refused(known):
    assert "dequantise" in refusals(judge(known, "codes", "chat"))["dtype"]


def test_a_larger_vocabulary_is_compatible_and_unmeasured_says_what_to_type(known):
    verdict = judge(known, "bigger", "chat", base="base")
    assert verdict.ok
    assert reason(verdict, "compatible").ok
    assert ("reg stats bigger", None) in [(r.detail[-16:], r.ok) for r in verdict.reasons]
    assert [s.method for s in verdict.suggestions] == ["linear", "slerp"]


def test_mixed_dtypes_are_said(known):
    verdict = judge(known, "bigger", "chat")
    assert reason(verdict, "dtype").detail == "mixed BF16, F32: the base's is kept"


def test_siblings_of_a_base_that_nobody_has_shown_are_homologous(known):
    verdict = judge(known, "son", "daughter")
    assert verdict.ok
    assert reason(verdict, "homologous").detail == "common base nobody/has-it (declared)"
    assert reason(verdict, "licence").ok is None
    assert "unknown for" in reason(verdict, "licence").detail


def test_the_same_model_twice_is_asked_once(known):
    id_ = id_of(known, "chat")
    assert mergeable(known, [id_, id_]).reasons == mergeable(known, [id_]).reasons


def test_an_id_that_is_not_there_has_no_verdict(known):
    for models, base in (
        ([id_of(known, "chat"), "f" * 64], None),
        ([id_of(known, "chat")], "e" * 64),
    ):
        with pytest.raises(UnknownModel):
            mergeable(known, models, base)


def test_the_verdict_needs_no_weights(known, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert judge(known, "chat", "math").ok


@pytest.fixture
def quarrel(family, tmp_path, catalog):
    """Two fine-tunes of one llama, one of which says that it is under the GPL."""
    base = family.weights["base"]
    save_model(tmp_path / "m" / "base", base, card="license: llama3.1")
    for name, seed, license_ in (("one", 31, "gpl-3.0"), ("two", 32, "llama3.1")):
        card = f"base_model: base\nlicense: {license_}"
        save_model(tmp_path / "m" / name, moved(base, seed, 0.001), card=card)
    scan(catalog, [str(tmp_path / "m")])
    return catalog


def test_licences_that_cannot_all_be_obeyed_forbid_a_merge(quarrel):
    ids = [quarrel.find("one"), quarrel.find("two")]
    verdict = mergeable(quarrel, ids)
    refused = refusals(verdict)
    assert set(refused) == {"licence"}
    for words in (
        "gpl-3.0:share_alike 5(c)",
        "llama3.1:use_policy 1(b)(iv)",
        "copyleft-restricted, GPL-3.0 section 10",
    ):
        assert words in refused["licence"]


def test_a_reason_turns_a_licence_conflict_into_an_open_question(quarrel):
    ids = [quarrel.find("one"), quarrel.find("two")]
    verdict = mergeable(quarrel, ids, allow_license_conflict="in house only")
    assert verdict.ok
    assert reason(verdict, "licence").ok is None
    assert reason(verdict, "licence").detail.startswith("conflict allowed: in house only; copyleft")

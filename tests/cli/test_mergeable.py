"""`reg mergeable`."""

import shutil


def test_a_yes_has_reasons_and_suggestions(known):
    verdict = known.json("mergeable", "chat", "math")
    assert verdict["ok"] is True
    assert verdict["base"] == "base"
    assert 0.5 < verdict["score"] < 1
    assert verdict["base_id"] == known.json("show", "base")["id"]
    assert {"check", "ok", "detail"} == verdict["reasons"][0].keys()
    assert {"method", "parameters", "why"} == verdict["suggestions"][0].keys()
    out = known.run("mergeable", "chat", "math").stdout
    assert out.startswith(
        "mergeable\nbase: base\nchance that an average keeps what they can do: 0."
    )
    assert "--set " in out


def test_a_no_has_reasons_and_exit_code_three(place, family):
    shutil.copytree(family.stranger, place.folder / "models" / "stranger")
    place.run("scan", "models")
    verdict = place.json("mergeable", "chat", "stranger", code=3)
    assert verdict["ok"] is False
    assert verdict["suggestions"] == []
    assert verdict["score"] == 0
    assert "not mergeable" in place.run("mergeable", "chat", "stranger", code=3).stdout
    assert place.run("mergeable", "chat", "stranger", "-q", code=3).stdout == ""


def test_measure_fills_in_what_is_not_known(scanned):
    before = {r["check"]: r["ok"] for r in scanned.json("mergeable", "chat", "math")["reasons"]}
    after = {
        r["check"]: r["ok"]
        for r in scanned.json("mergeable", "chat", "math", "--measure")["reasons"]
    }
    assert before["delta"] is None
    assert after["delta"] is True


def test_measure_tells_relatives_from_strangers_where_no_base_is_known(place, family):
    for model in (family.stranger,):
        shutil.copytree(model, place.folder / "models" / model.name)
    place.run("scan", "models")
    assert place.json("mergeable", "chat", "stranger", "--measure", code=3)["base"] is None
    detail = {
        r["check"]: r["detail"]
        for r in place.json("mergeable", "chat", "stranger", code=3)["reasons"]
    }
    assert "cosine" in detail["homologous"]


def test_quiet_prints_the_base(known):
    assert (
        known.run("mergeable", "chat", "math", "-q").stdout.strip()
        == known.json("show", "base")["id"]
    )

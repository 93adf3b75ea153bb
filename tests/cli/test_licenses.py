"""`reg licenses`, and what other commands say of licences."""

import pytest

SAYS = {
    "base": "license: llama3.1",
    "chat": "base_model: base\nlicense: apache-2.0",
    "math": "license: gpl-3.0",
}


@pytest.fixture(scope="module")
def quarrel(make_place):
    """A llama, a fine-tune that drops its licence, and one under the GPL; only for reading."""
    place = make_place()
    for name, card in SAYS.items():
        (place.folder / "models" / name / "README.md").write_text(f"---\n{card}\n---\n")
    place.run("scan", "models")
    return place


def test_all_models_are_listed_with_findings_and_the_note_once(quarrel):
    out = quarrel.run("licenses").stdout
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line}
    assert rows["base"][:3] == ["base", "llama3.1", "llama3.1"]
    assert "license_drift" in out
    assert "license_conflict" in out
    assert out.count("not legal advice") == 1


def test_one_model_is_shown_with_what_is_asked(quarrel):
    out = quarrel.run("licenses", "chat").stdout
    assert "apache-2.0" in out
    assert "Llama 3.1 Acceptable Use Policy" in out
    assert "says apache-2.0, but base is under llama3.1" in out


def test_programs_get_every_atom_with_rule_source_and_ancestor(quarrel):
    document = quarrel.json("licenses", "chat")
    assert "not legal advice" in document["note"]
    (chat,) = document["models"]
    assert (chat["declared"], chat["suggested"]) == (["apache-2.0"], "llama3.1")
    policy = next(atom for atom in chat["atoms"] if atom["atom"] == "use_policy")
    assert policy == {
        "atom": "use_policy", "value": "Llama 3.1 Acceptable Use Policy", "rule": "llama3.1:use_policy",
        "source": "Llama 3.1 Community License Agreement (2024-07-23), 1(b)(iv)", "from": "base",
        "from_id": quarrel.json("show", "base")["id"], "changed": True,
    }  # fmt: skip
    assert [f["kind"] for f in chat["findings"]] == ["license_drift"]
    everybody = quarrel.json("licenses")["models"]
    assert [m["model"] for m in everybody] == ["base", "chat", "math"]


def test_loops_get_ids_in_the_order_asked_for(quarrel):
    ids = [quarrel.json("show", name)["id"] for name in ("math", "chat")]
    assert quarrel.run("licenses", "math", "chat", "math", "-q").stdout.split() == ids


def test_cards_that_agree_make_one_licence(scanned):
    assert scanned.json("licenses")["models"][0]["suggested"] == "apache-2.0"


def test_a_conflict_is_a_no_a_plan_that_says_so_and_a_refused_merge(quarrel):
    pair = ("chat", "math")
    verdict = quarrel.json("mergeable", *pair, code=3)
    licence = next(r for r in verdict["reasons"] if r["check"] == "licence")
    assert licence["ok"] is False
    assert "gpl-3.0:share_alike" in licence["detail"]
    allowed = quarrel.json("mergeable", *pair, "--allow-license-conflict", "a test")
    assert allowed["ok"] is True
    merge = ("--method", "linear", *pair)
    planned = quarrel.run("plan", *merge)
    assert "license_conflict: copyleft" in planned.stdout
    assert "hint: reg merge refuses this without --allow-license-conflict" in planned.stderr
    found = quarrel.json("plan", *merge)["license"]
    assert found["suggested"] is None
    assert "license_conflict" in {f["kind"] for f in found["findings"]}
    refused = quarrel.run("merge", *merge, "-o", "out", code=1)
    assert "error: the licences of the models cannot all be obeyed" in refused.stderr
    assert not (quarrel.folder / "out").exists()
    quarrel.run("merge", *merge, "-o", "out", "--allow-license-conflict", " ", code=1)


def test_the_reason_is_told_by_lineage_and_show(quarrel, copy_of):
    quarrel = copy_of(quarrel)
    words = ("--method", "linear", "chat", "math", "--allow-license-conflict", "stays in house")
    quarrel.run("merge", *words, "-o", "out")
    told = "out: licence conflict allowed: stays in house"
    assert f"note: {told}" in quarrel.run("lineage", "out").stderr
    shown = quarrel.json("show", "out")
    assert shown["allowed"][0]["detail"].startswith("licence conflict allowed: stays in house")
    assert shown["effective_license"]["suggested"] is None
    assert {f["kind"] for f in shown["license_findings"]} == {"license_conflict"}
    assert "effective licence  no single one" in quarrel.run("show", "out").stdout


def test_a_plan_tells_the_licence_of_the_result(known):
    planned = known.run("plan", "--method", "linear", "chat", "math")
    assert "licence      apache-2.0 (covers all it was made of)" in planned.stdout
    assert "asked: say what was changed (apache-2.0:state_changes" in planned.stdout
    assert "hint" not in planned.stderr

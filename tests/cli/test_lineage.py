"""`reg lineage`."""

import json
from xml.etree import ElementTree as ET

import pytest
from documents_for_others import judge_bill, judge_prov
from prov.model import ProvEntity


def test_people_see_a_tree(known):
    out = known.run("lineage").stdout
    assert out.splitlines()[0] == "base"
    assert "├── chat  finetune, declared" in out
    assert "merged  merge 0.6, recorded + declared" in out
    assert out.count("… (see above)") == 2


def test_programs_see_nodes_and_edges(known):
    graph = known.json("lineage")
    assert {m["name"] for m in graph["models"]} == {"base", "chat", "math", "merged"}
    assert {"child", "parent", "relation", "status", "coefficient", "confidence"} <= graph["edges"][
        0
    ].keys()
    assert known.run("lineage", "--format", "json").stdout == known.run("lineage", "--json").stdout


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("chat",), {"base", "chat", "merged"}), (("chat", "--ancestors"), {"base", "chat"}),
        (("chat", "--descendants"), {"chat", "merged"}), (("merged", "--ancestors"), {"base", "chat", "math", "merged"}),
    ],
)  # fmt: skip
def test_a_model_shows_its_relatives(known, words, names):
    graph = known.json("lineage", *words)
    assert {m["name"] for m in graph["models"]} == names
    assert set(known.run("lineage", *words, "-q").stdout.split()) == {
        m["id"] for m in graph["models"]
    }


def test_documents_for_other_programs_are_judged_valid_and_tell_of_no_folder(known):
    for words in ((), ("merged",), ("merged", "--ancestors"), ("base", "--descendants")):
        said = known.run("lineage", *words, "--format", "cyclonedx").stdout
        bill = judge_bill(said)
        assert (bill["metadata"].get("component", {}).get("name")) == (words[0] if words else None)
        assert said == known.run("lineage", *words, "--format", "cyclonedx", "--json").stdout
        told = known.run("lineage", *words, "--format", "prov").stdout
        assert {r.label for r in judge_prov(told).get_records(ProvEntity)} >= {"base", "merged"}
        assert str(known.folder) not in said + told


def test_a_merge_is_told_with_its_recipe_and_its_run(known):
    bill = known.json("lineage", "merged", "--ancestors", "--format", "cyclonedx")
    own = bill["metadata"]["component"]
    told = {each["name"]: each["value"] for each in own["properties"]}
    assert json.loads(told["homolog:recipe"])["method"] == "task_arithmetic"
    names = {part["name"] for part in own["pedigree"]["ancestors"]}
    assert {"base", "chat", "math"} == names
    prov = known.json("lineage", "merged", "--ancestors", "--format", "prov")
    assert len(prov["activity"]) == 1
    assert len(prov["used"]) == 3


def test_other_formats_are_whole(known):
    assert known.run("lineage", "--format", "dot").stdout.startswith("digraph")
    assert known.run("lineage", "--format", "mermaid").stdout.startswith("flowchart")
    assert ET.fromstring(known.run("lineage", "--format", "graphml").stdout).tag.endswith("graphml")  # noqa: S314


def test_contradictions_are_told(place):
    card = place.folder / "models" / "chat" / "README.md"
    card.write_text("---\nbase_model: base\nlicense: mit\n---\n")
    place.run("scan", "models")
    result = place.run("lineage")
    assert (
        "note: chat: its licence drops apache-2.0:state_changes of base (license_drift)"
        in result.stderr
    )
    (found,) = place.json("lineage")["licenses"]
    assert (found["model"], found["kind"], found["from"]) == ("chat", "license_drift", ["base"])


def test_a_model_is_drawn_with_its_licence_and_those_who_say_nothing_are_named(place):
    card = place.folder / "models" / "chat" / "README.md"
    card.write_text("---\nbase_model: base\n---\n")
    place.run("scan", "models")
    result = place.run("lineage", "math")
    assert (
        "licence: apache-2.0 (covers all it was made of); asked: notice, state_changes"
        in result.stdout
    )
    assert "licence" not in place.run("lineage", "math", "--format", "dot").stdout
    assert "note: licence unknown for chat (license_unknown)" in place.run("lineage").stderr


def test_a_direction_needs_a_model(known):
    known.run("lineage", "--ancestors", code=2)

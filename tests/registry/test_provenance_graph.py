"""Provenance is valid PROV-JSON that the reference parser reads whole."""

import json
from dataclasses import replace

from documents_for_others import RUN, A, C, everything, judge_prov
from prov.model import ProvActivity, ProvDerivation, ProvEntity, ProvGeneration, ProvUsage

from registry.provenance_graph import as_prov


def test_a_pedigree_with_everything_is_valid_and_complete():
    read = judge_prov(json.dumps(as_prov(everything())))
    assert len(list(read.get_records(ProvEntity))) == 4 + 1  # models, and the recipe that is known
    assert len(list(read.get_records(ProvActivity))) == 2
    assert len(list(read.get_records(ProvUsage))) == 2
    assert len(list(read.get_records(ProvGeneration))) == 2
    assert len(list(read.get_records(ProvDerivation))) == 6


def test_a_merge_is_generated_by_its_run_which_used_its_parents_by_its_recipe():
    found = as_prov(everything())
    assert found["used"]["_:used1"] == {
        "prov:activity": f"run:{RUN}", "prov:entity": f"model:{A}", "prov:role": "model"
    }  # fmt: skip
    assert found["wasGeneratedBy"]["_:generated1"] == {
        "prov:entity": f"model:{C}", "prov:activity": f"run:{RUN}"
    }  # fmt: skip
    plans = [each.get("prov:plan") for each in found["wasAssociatedWith"].values()]
    assert plans == ["recipe:" + "e" * 64, None]
    assert found["activity"][f"run:{RUN}"]["prov:startTime"] == "2026-01-02T03:04:05.000006+00:00"


def test_every_edge_is_a_derivation_that_says_who_says_so():
    derived = as_prov(everything())["wasDerivedFrom"].values()
    assert [(e["homolog:status"], e["homolog:confidence"]) for e in derived] == [
        ("declared", 0.1), ("inferred", 0.9), ("recorded", 1.0), ("recorded", 1.0), ("declared", 0.5), ("declared", 0.5),
    ]  # fmt: skip


def test_the_same_pedigree_gives_the_same_document():
    assert json.dumps(as_prov(everything())) == json.dumps(as_prov(everything()))


def test_provenance_of_nothing_is_valid():
    judge_prov(
        json.dumps(as_prov(replace(everything(), members={}, edges=(), runs=(), recipes={})))
    )

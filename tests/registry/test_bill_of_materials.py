"""Bills of materials are valid, say what is known, and follow from the catalog alone."""

import json
from dataclasses import replace

from documents_for_others import A, B, C, D, everything, judge_bill

from registry.bill_of_materials import as_bill
from registry.license_table import license_table
from registry.pedigree import License


def bill(pedigree):
    return judge_bill(json.dumps(as_bill(pedigree)))


def properties(part):
    return [(each["name"].removeprefix("homolog:"), each["value"]) for each in part["properties"]]


def test_a_pedigree_with_everything_is_valid_and_complete():
    found = bill(everything())
    about = found["metadata"]["component"]
    assert about["bom-ref"] == C
    assert about["hashes"] == [{"alg": "BLAKE3", "content": C}]
    assert [part["bom-ref"] for part in found["components"]] == [A, B, D]
    assert {e["ref"]: e.get("dependsOn") for e in found["dependencies"]} == {
        A: [D], B: None, C: [A, B], D: [A]
    }  # fmt: skip
    first, second = about["pedigree"]["ancestors"]
    assert first["name"] == "org/base"
    assert properties(first) == [
        ("edge", "merge 0.25 as model, inferred, confidence 0.9"),
        ("edge", "merge 0.25 as model, recorded, confidence 1.0"),
    ]
    assert "hashes" not in second  # nobody has seen it
    assert about["modelCard"]["modelParameters"] == {
        "architectureFamily": "llama", "modelArchitecture": "Llama"
    }  # fmt: skip
    metric, other = about["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert metric["type"] == "acc (claimed, lm-eval 1, 5 shots)"
    assert metric["confidenceInterval"] == {"lowerBound": "0.25", "upperBound": "0.75"}
    assert other == {"type": "acc (claimed)", "value": "0.5", "slice": "t"}
    assert [value for key, value in properties(about) if key.startswith("recipe")] == [
        "e" * 64, '{"method": "linear"}', "f" * 64, ""
    ]  # fmt: skip
    assert "\x1b" not in json.dumps(found, ensure_ascii=False)


def test_licences_are_of_spdx_where_it_has_them():
    found = bill(everything())
    base, _, last = found["components"]
    assert base["licenses"] == [{"license": {"id": "Apache-2.0", "acknowledgement": "declared"}}]
    assert last["licenses"] == [{"license": {"id": "MIT", "acknowledgement": "concluded"}}]
    assert [set(e["license"]) for e in found["metadata"]["component"]["licenses"]] == [
        {"name", "acknowledgement"}
    ] * 2
    assert base["purl"] == "pkg:huggingface/org/base@" + "f" * 40


def test_every_identifier_of_the_table_of_licences_is_spdx_s_own():
    given = everything()
    known = tuple(
        License(each.id, each.spdx, declared=True)
        for each in license_table().licenses.values() if each.spdx
    )  # fmt: skip
    assert len(known) > 40
    members = dict(given.members)
    members[A] = replace(members[A], licenses=known)
    bill(replace(given, members=members))


def test_the_serial_number_follows_from_the_content():
    given = everything()
    assert as_bill(given) == as_bill(everything())
    changed = as_bill(replace(given, edges=given.edges[1:]))
    assert changed["serialNumber"] != as_bill(given)["serialNumber"]
    whole = bill(replace(given, about=None))
    assert "component" not in whole["metadata"]
    assert len(whole["components"]) == 4


def test_a_bill_of_nothing_is_valid():
    bill(replace(everything(), about=None, members={}, edges=(), runs=(), used={}, recipes={}))

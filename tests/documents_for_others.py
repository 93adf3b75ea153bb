"""The real judges of documents that other programs read, and a pedigree that holds everything a pedigree can."""

import json
import warnings
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import jsonschema
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from prov.model import ProvDocument

from registry.lineage import Edge
from registry.names import Address
from registry.pedigree import License, Member, Pedigree

A, B, C, D = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)
RUN = "0" * 32
HOSTILE = 'x\x1b]0;"<&>\u202e\n\\ \U0001f600'


def judge_bill(text: str) -> dict[str, Any]:
    """Let CycloneDX's own validator judge a document, strictly."""
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    assert wrong is None, wrong
    document = json.loads(text)
    parts = [document["metadata"].get("component"), *document["components"]]
    refs = [part["bom-ref"] for part in parts if part]
    assert len(set(refs)) == len(refs)
    for each in document["dependencies"]:
        assert {each["ref"], *each.get("dependsOn", ())} <= set(refs)
    return document


def judge_prov(text: str) -> ProvDocument:
    """Let the schema of PROV-JSON and the reference parser judge a document; nothing is lost between them."""
    document = json.loads(text)
    schema = json.loads(
        (files("prov") / "tests" / "schemas" / "prov-json.schema.json").read_text(encoding="utf-8")
    )
    jsonschema.validate(document, schema)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = ProvDocument.deserialize(content=text, format="json")
        assert (
            ProvDocument.deserialize(content=read.serialize(format="json"), format="json") == read
        )
    assert len(read.records) == sum(len(v) for k, v in document.items() if k != "prefix")
    return read


def member(id_: str, name: str, **changed: Any) -> Member:
    """A model of which little is known."""
    given = {
        "facts": {"kind": "model", "status": "full", "digest_name": "d"},
        "repositories": (), "licenses": (), "asked": (), "scores": (),
    } | changed  # fmt: skip
    return Member(id_, name, **given)


def everything() -> Pedigree:
    """A merge of two, one of which is only named, and a cycle of claims; names are hostile."""
    score = {
        "model_id": C, "task": HOSTILE, "metric": "acc", "value": 0.5, "stderr": 0.25, "n": 10,
        "harness": "lm-eval", "harness_version": "1", "shots": 5, "origin": "claimed",
    }  # fmt: skip
    bare = score | {
        "stderr": None,
        "shots": None,
        "harness": None,
        "harness_version": None,
        "task": "t",
    }
    members = [
        member(
            A, "org/base", licenses=(License("apache-2.0", "Apache-2.0", declared=True),),
            repositories=(Address("hub", "org/base", "F" * 40), Address("hub", "copy/base", None, "")),
        ),
        member(B, HOSTILE, facts={"kind": "model", "status": "latent", "digest_name": "name"}),
        member(
            C, "merged", scores=(score, bare), asked=("keep its notices", HOSTILE),
            licenses=(License(HOSTILE, None, declared=True), License("llama3", None, declared=True)),
            facts={"kind": "model", "status": "full", "digest_name": "d", "n_params": 10**12, "architecture": "Llama", "family": "llama"},
        ),
        member(D, "", licenses=(License("mit", "MIT", declared=False),)),
    ]  # fmt: skip
    edges = (
        Edge(A, D, "finetune", "parent", "declared", None, 0.1),
        Edge(C, A, "merge", "model", "inferred", 0.25, 0.9),
        Edge(C, A, "merge", "model", "recorded", 0.25, 1.0),
        Edge(C, B, "merge", "base", "recorded", None, 1.0),
        Edge(D, A, "finetune", "parent", "declared", None, 0.5),
        Edge(D, D, "copy", "parent", "declared", None, 0.5),
    )
    when = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    runs = (
        {"id": RUN, "model_id": C, "recipe": "e" * 64, "engine_version": "0.1.0", "started_at": when, "ended_at": when},
        {"id": "1" * 32, "model_id": C, "recipe": "f" * 64, "engine_version": "0.2.0", "started_at": when, "ended_at": None},
    )  # fmt: skip
    return Pedigree(
        C, {m.id: m for m in members}, edges, runs,
        {RUN: [(A, "model"), (B, "base")]}, {"e" * 64: '{"method": "linear"}'},
    )  # fmt: skip

"""`reg scan`."""

import json
import os
import shutil
import subprocess
import sys


def test_scan_says_what_it_found(place):
    found = place.json("scan", "models")
    assert {k: found[k] for k in ("scanned", "new", "unchanged", "updated", "gone", "casts")} == {
        "scanned": 3, "new": 3, "unchanged": 0, "updated": 0, "gone": 0, "casts": 0,
    }  # fmt: skip
    assert [m["name"] for m in found["models"]] == ["base", "chat", "math"]
    assert found["problems"] == []
    assert place.json("scan", "models")["unchanged"] == 3


def test_one_bad_file_is_a_problem_and_not_the_end(place):
    bad = place.folder / "models" / "bad"
    bad.mkdir()
    (bad / "model.safetensors").write_bytes(b"\xff" * 64)
    found = place.json("scan", "models")
    assert found["new"] == 4
    assert len(found["models"]) == 3
    (problem,) = found["problems"]
    assert problem["address"] == str(bad)
    assert problem["file"] == "model.safetensors"
    assert problem["error"] == "HeaderTooLarge"
    said = place.run("scan", "models")
    assert "4 scanned: 4 unchanged" in said.stdout
    assert "HeaderTooLarge" in said.stdout
    assert "note: 1 problem" in said.stderr


def test_quiet_prints_each_id_once(place):
    shutil.copytree(place.folder / "models" / "base", place.folder / "models" / "copy")
    ids = place.run("scan", "models", "-q").stdout.split()
    assert len(ids) == len(set(ids)) == 3


def test_casts_are_found_where_there_can_be_any(place, family):
    shutil.copytree(family.original, place.folder / "models" / "original")
    assert place.json("scan", "models")["casts"] == 1
    edges = place.json(
        "sql", "select child_name, parent_name, relation, status from edges where relation = 'cast'"
    )
    assert edges == [
        {"child_name": "base", "parent_name": "original", "relation": "cast", "status": "measured"}
    ]
    assert "found to be a cast" not in place.run("scan", "models").stdout


def test_headers_only_reads_no_weights(place):
    assert {m["status"] for m in place.json("scan", "models", "--headers-only")["models"]} == {
        "header"
    }


def test_an_address_that_does_not_exist_is_an_error(place):
    assert "nowhere" in place.run("scan", "nowhere", code=1).stderr


# --- The Hub


def reg(*words, **environment):
    """Run a command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", "from cli.main import main; main()", *words],
        env={**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1", **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_repositories_of_the_hub_are_scanned_and_told_of(hub, family, tmp_path):
    hub.add("org/chat", family.chat)
    hub.add("org/gated", family.base, gated=True)
    there = {"REG_CATALOG": str(tmp_path / "catalog.duckdb")}
    done = reg("scan", "hf://org/*", "--json", **there)
    assert done.returncode == 0
    document = json.loads(done.stdout)
    assert (document["scanned"], document["new"]) == (2, 2)
    assert [m["name"] for m in document["models"]] == ["org/chat"]
    assert [p["error"] for p in document["problems"]] == ["HubRefused"]
    assert document["received_bytes"] == hub.log.bytes_sent
    done = reg("scan", "hf://org/*", "--requests", "1", **there)
    assert (done.returncode, "2 unchanged" in done.stdout) == (0, True)
    hub.add("org/more", family.math)
    done = reg("scan", "hf://org/*", "--requests", "1", **there)
    assert done.returncode == 1
    assert "the 1 requests that were allowed are used up" in done.stderr


def test_a_token_is_sent_to_the_hub_and_written_nowhere(hub, family, tmp_path):
    canary = "hf_" + "Canary" * 6
    hub.token = canary
    hub.add("org/private", family.chat, private=True)
    hub.add("org/short", {"model.safetensors": b"\xff" * 20_000, "config.json": b"{}"})
    there = {"REG_CATALOG": str(tmp_path / "catalog.duckdb"), "HF_TOKEN": canary}
    said = ""
    for words in (["scan", "hf://org/*"], ["scan", "hf://org/none", "hf://org/private@v1"],
                  ["scan", "hf:collection/org/none"], ["show", "org/private"]):  # fmt: skip
        done = reg(*words, **there)
        said += done.stdout + done.stderr
    assert "org/private" in said
    assert {r.authorization for r in hub.log.find("/api/models|resolve", "api")} == {
        f"Bearer {canary}"
    }
    assert not any(r.authorization for r in hub.log.find(origin="cdn"))
    written = [f for f in tmp_path.rglob("*") if f.is_file()]
    assert written
    assert canary not in said
    assert not [f for f in written if canary.encode() in f.read_bytes()]


def test_sketch_fetches_samples_once_and_infer_uses_them(place, hub, family):
    for folder in (family.base, family.chat, family.math):
        hub.add(f"org/{folder.name}", folder)
    assert place.json("scan", "hf://org/*")["sketched"] == 0
    refused = place.run("infer", code=1).stderr
    assert "reg scan --sketch" in refused
    first = place.json("scan", "--sketch", "hf://org/*")
    assert (first["new"], first["sketched"], first["unsketched"]) == (0, 3, {})
    assert {m["status"] for m in first["models"]} == {"sampled"}
    again = place.json("scan", "--sketch", "hf://org/*")
    assert (again["sketched"], again["requests"]) == (0, 1)
    hub.log.clear()
    found = place.json("infer")
    assert (found["n_models"], found["n_afar"], len(hub.log)) == (3, 0, 0)
    hub.add("org/cpt", family.cpt)
    place.run("scan", "hf://org/*")
    assert "1 models are on the Hub only" in place.run("infer").stderr


def test_requests_are_counted_over_scan_and_sketch(place, hub, family):
    for folder in (family.base, family.chat):
        hub.add(f"org/{folder.name}", folder)
    n = place.json("scan", "hf://org/*")["requests"]
    assert n > 4
    place.run("scan", "--sketch", "hf://org/*", "--requests", "3", code=1)
    assert place.json("scan", "--sketch", "hf://org/*", "--requests", "40")["sketched"] == 2


def test_digests_make_models_of_the_hub_as_well_known_as_those_here(place, hub, family):
    hub.add("org/chat", family.chat)
    found = place.json("scan", "--digests", "hf://org/chat")
    ((model, status),) = [(m["id"], m["status"]) for m in found["models"]]
    assert status == "full"
    (here,) = place.json("scan", "models/chat")["models"]
    assert here["id"] == model
    assert place.json("scan", "--digests", "hf://org/chat")["requests"] == 1

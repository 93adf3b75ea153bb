"""`reg push`: what people see, and that a model comes back from the Hub as it went."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from registry.catalog import Catalog, Columns
from registry.scores import Score, score_row

ZOO = Path(__file__).parents[2] / "data" / "zoo"
SUITE = "sums"

LOADS = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
found = []
for name in sys.argv[1:]:
    tokenizer = AutoTokenizer.from_pretrained(name)
    network = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
    words = tokenizer(["12+34=", "abc|"], return_tensors="pt", padding=True)
    words.pop("token_type_ids", None)
    with torch.inference_mode():
        found.append(network(**words).logits)
print(torch.equal(*found), tuple(found[0].shape))
"""


@pytest.fixture(scope="module")
def merged(place_at, tmp_path_factory):
    """A folder with trained models, a merge of two of them, and a measured score; only for reading."""
    folder = tmp_path_factory.mktemp("merged")
    (folder / ".reg").mkdir()
    for name in ("base", "arithmetic", "reverse"):
        shutil.copytree(ZOO / name, folder / "models" / name)
    place = place_at(folder)
    place.run("scan", "models")
    place.run("merge", "--method", "task_arithmetic", "arithmetic", "reverse", "-o", "merged")
    score = Score(
        task=SUITE, metric="exact_match", value=0.5, stderr=0.25, n=4, harness="homolog", harness_version="0.1.0",
        shots=0, origin="measured", source=f"{SUITE}.jsonl#abc", date=None, raw="",
    )  # fmt: skip
    catalog, columns = Catalog(folder / ".reg" / "catalog.duckdb"), Columns()
    columns.add([score_row(catalog.find("merged"), score)])
    with catalog.write() as transaction:
        columns.insert(transaction, "replace")
    return place


@pytest.fixture
def mine(merged, copy_of, hub, monkeypatch):
    """A place of one's own that knows all that, with a token of one who may write."""
    monkeypatch.setenv("HF_TOKEN", hub.token)
    return copy_of(merged)


def edges(place):
    rows = place.json("sql", "select child, parent, relation, role, coefficient, status from edges")
    return sorted((r for r in rows if r["status"] == "declared"), key=str)


def test_a_dry_run_prints_the_card_and_asks_nobody(mine, hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    done = mine.run("push", "merged", "me/merged", "--dry-run")
    assert done.stdout.startswith("---\n")
    assert "base_model_relation" not in done.stdout  # no parent is on the Hub
    assert "model.safetensors: 905," in done.stderr
    assert "7 files of " in done.stderr
    assert "base, arithmetic, reverse: on this machine only" in done.stderr
    document = mine.json("push", "merged", "me/merged", "--dry-run", "--private")
    assert document["card"].rstrip("\n") == done.stdout.rstrip("\n")
    assert document["private"] is True
    assert [p["name"] for p in document["parents"]] == ["base", "arithmetic", "reverse"]
    assert not hub.log.find()
    assert not mine.json(
        "sql", "select * from models where len(list_filter(addresses, a -> a like 'hf://%')) > 0"
    )


def test_a_merge_comes_back_from_the_hub_as_it_went(mine, merged, hub, tmp_path, place_at):
    for name in ("base", "arithmetic", "reverse"):
        mine.run("push", str(merged.folder / "models" / name), f"me/{name}", "-q")
    done = mine.run("push", "merged", "me/merged", "--message", "A merge")
    head = hub.repo("me/merged").head
    assert f"hf://me/merged@{head.sha}" in done.stdout
    assert "on this machine only" not in done.stderr
    assert head.title == "A merge"
    assert head.card["base_model"] == ["me/base", "me/arithmetic", "me/reverse"]
    assert (head.card["base_model_relation"], head.card["license"]) == ("merge", "apache-2.0")
    assert {"merge", "homolog"} <= set(head.card["tags"])
    assert head.card["model-index"][0]["results"][0]["dataset"]["name"] == SUITE
    weights = merged.folder / "merged" / "model.safetensors"
    assert head.read("model.safetensors") == weights.read_bytes()
    assert head.read("homolog.json") == (merged.folder / "merged" / "homolog.json").read_bytes()
    loads = [sys.executable, "-c", LOADS, "me/merged", str(merged.folder / "merged")]
    loaded = subprocess.run(loads, capture_output=True, text=True, check=False)
    assert loaded.stdout.startswith("True (2, "), loaded.stderr
    shown = mine.run("lineage", "me/merged", "--ancestors").stdout
    assert f"on the Hub: hf://me/merged@{head.sha}" in shown
    (tmp_path / ".reg").mkdir()
    fresh = place_at(tmp_path)
    fresh.run("scan", str(merged.folder / "models"), "hf://me/merged")
    recorded = fresh.json("lineage", "me/merged", "--ancestors")["edges"]
    assert {(e["role"], e["coefficient"]) for e in recorded if e["relation"] == "merge"} == {
        ("base", None), ("model", 1.0),
    }  # fmt: skip
    hubs = [f"hf://me/{name}" for name in ("base", "arithmetic", "reverse", "merged")]
    fresh.run("scan", str(merged.folder / "merged"), *hubs)
    mine.run("scan", *hubs)
    assert _named(edges(fresh)) == _named(edges(mine))
    assert fresh.json("show", "me/merged")["status"] == "full"


def _named(rows):
    """Edges by ids: names are those of whatever place was known first."""
    return sorted((r["child"], r["parent"], r["relation"], r["role"]) for r in rows)


def test_a_benchmark_gets_a_file_of_its_own(mine, hub):
    mine.run("push", "merged", "me/merged", "--benchmark", f"{SUITE}=me/sums:small", "-q")
    head = hub.repo("me/merged").head
    path = ".eval_results/homolog-me-sums-small-exact_match.yaml"
    assert b"task_id: small" in head.read(path)
    assert "model-index" not in head.card
    mine.run("push", "merged", "me/merged", "--benchmark", f"{SUITE}=org/sums", "-q")
    head = hub.repo("me/merged").head
    assert path not in head.entries
    assert ".eval_results/homolog-org-sums-default-exact_match.yaml" in head.entries
    assert mine.run("push", "merged", "me/merged", "--benchmark", "x", code=1).stderr


def test_a_second_push_says_that_all_is_there(mine, hub):
    mine.run("push", "merged", "me/merged", "-q")
    again = mine.run("push", "merged", "me/merged", "--no-verify")
    assert "all of it was there already; no commit was made" in again.stderr
    document = mine.json("push", "merged", "me/merged", "--no-verify")
    assert (document["unchanged"], document["created"], document["noted"]) == (True, False, True)
    assert document["address"] == f"hf://me/merged@{hub.repo('me/merged').head.sha}"
    assert mine.run("push", "merged", "me/merged", "--no-verify", "-q").stdout.split() == [
        document["digest"]
    ]


def test_a_refusal_is_one_error_with_a_hint(mine, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.outsider_token)
    refused = mine.run("push", "merged", "me/merged", code=1)
    assert "error: hf://me/merged: the token has no right to write there" in refused.stderr
    assert "nothing was written" in refused.stderr
    assert "hint: hf auth login" in refused.stderr
    monkeypatch.delenv("HF_TOKEN")
    assert "no token is known" in mine.run("push", "merged", "me/merged", code=1).stderr
    assert "not the name of a repository" in mine.run("push", "merged", "merged", code=1).stderr


def test_a_conflict_of_licences_needs_a_reason(place, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.token)
    for name, card in (
        ("base", "license: llama3.1"),
        ("chat", "license: gpl-3.0\nbase_model: base"),
    ):
        (place.folder / "models" / name / "README.md").write_text(f"---\n{card}\n---\n")
    place.run("scan", "models")
    refused = place.run("push", "chat", "me/chat", "--dry-run", code=1)
    assert "hint: --allow-license-conflict REASON pushes nevertheless" in refused.stderr
    place.run("push", "chat", "me/chat", "--allow-license-conflict", "a court said so")
    assert (
        "passed on nevertheless: a court said so"
        in hub.repo("me/chat").head.read("README.md").decode()
    )
    assert "a court said so" in place.run("lineage", "chat").stderr


@pytest.mark.parametrize("fails", [False, True])
def test_a_token_is_written_nowhere(mine, merged, hub, tmp_path, monkeypatch, fails):
    canary = "hf_CANARYxyzzy0123456789abcdefghijkl"
    hub.token = hub.access.token = canary
    monkeypatch.setenv("HF_TOKEN", canary)
    if fails:
        said = json.dumps({"error": f"{canary} is not good"}).encode()
        hub.fault(
            "/commit/", times=None, status=400, headers={"X-Error-Message": canary}, body=said
        )
    spoken = mine.run("push", "merged", "me/merged", code=int(fails))
    assert canary in str(hub.log.find("/commit/")[0].authorization)
    assert "CANARY" not in spoken.output
    roots = [mine.folder, merged.folder, hub.store.objects.root, Path(tmp_path)]
    files = [p for root in roots for p in root.rglob("*") if p.is_file()]
    assert len(files) > 10
    assert not [p for p in files if b"CANARY" in p.read_bytes()]

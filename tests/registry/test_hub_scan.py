"""Scanning the Hub: all that is good is indexed, all that is bad is named, and nothing is asked twice."""

import gc
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save
from scanned import content, orphans, statuses

from registry import hub_scan
from registry.catalog import Catalog
from registry.errors import HubBusy, HubMissing, Offline, RequestsSpent
from registry.scan import scan

ZOO = Path(__file__).parents[2] / "data" / "zoo"
REAL = (
    "base",
    "sort",
    "reverse",
    "prose",
    "arithmetic",
    "arithmetic-plus",
    "stranger",
    "upper-lora",
)


def files(value=1, **config):
    """A small repository; ``value`` decides its weights."""
    weights = save({"layers.0.w": np.full((80, 80), value, np.float32)})
    return {"model.safetensors": weights, "config.json": json.dumps(config).encode()}


def problems(catalog):
    """The name of each bad repository and what is wrong with it."""
    rows = catalog.rows("select uri, error from problems order by uri, error")
    return [(re.split("//|@", r["uri"])[1], r["error"]) for r in rows]


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr("registry.hub_requests._LONGEST_WAIT_SECONDS", 0.01)


@pytest.fixture
def crowd(hub):
    """An owner of 300 good repositories, copies with cards of their own and adapters among them, and of bad ones."""
    for i in range(300):
        folder = ZOO / REAL[i % len(REAL)]
        inside = {f.name: f for f in folder.iterdir() if f.name != "README.md"}
        card = f"---\nbase_model: crowd/model-{i % 7:03}\nlicense: mit\n---\n# {i}\n"
        hub.add(f"crowd/model-{i:03}", {**inside, "README.md": card.encode()}, link=True)
    hub.add("crowd/gated", files(), gated=True)
    hub.add("crowd/short", {**files(), "model.safetensors": files()["model.safetensors"][:-5]})
    hub.add("crowd/noise", {**files(), "model.safetensors": b"\xff" * 20_000})
    hub.add("crowd/pickle", {"pytorch_model.bin": b"\x80" * 20_000, "config.json": b"{}"})
    hub.add("crowd/empty", {"README.md": b"soon"})
    hub.add("crowd/private", files(), private=True)
    return hub


def test_a_crowd_is_indexed_and_what_is_bad_is_named(crowd, catalog, impatient):
    crowd.page_size = 100
    for _ in range(6):
        crowd.fault("tree|resolve", status=429, after=40)
    crowd.fault("resolve", status=500, after=300)
    report = scan(catalog, ["hf://crowd/*"])
    assert (report.scanned, report.new) == (305, 305)
    assert problems(catalog) == [
        ("crowd/empty", "EmptyCheckpoint"), ("crowd/gated", "HubRefused"), ("crowd/noise", "HeaderTooLarge"),
        ("crowd/pickle", "UnsafeFormat"), ("crowd/short", "TruncatedFile"),
    ]  # fmt: skip
    rows = catalog.rows("select count(*) as n, count(distinct model_id) as m from store.address")
    assert rows == [{"n": 300, "m": len(REAL)}]  # copies are one model
    asked = crowd.log.find("models|resolve|repos")
    assert report.received_bytes == sum(r.bytes_sent for r in asked) < 305 * 50_000
    assert report.n_requests == len(asked)
    assert orphans(catalog) == []

    crowd.log.clear()
    crowd.add("crowd/model-007", files(7))
    crowd.add("crowd/model-new", files(8))
    crowd.remove("crowd/model-008")
    report = scan(catalog, ["hf://crowd/*"])
    assert (report.new, report.updated, report.gone, report.unchanged) == (1, 1, 1, 303)
    asked = {m[1] for r in crowd.log if (m := re.search("(crowd/[^/]+)/(tree|resolve)", r.path))}
    assert asked == {"crowd/model-007", "crowd/model-new"}

    crowd.log.clear()
    before = content(catalog)
    assert scan(catalog, ["hf://crowd/*"]).unchanged == 305
    assert {r.path.partition("?")[0] for r in crowd.log} <= {"/api/models", "/api/agent-harnesses"}
    assert content(catalog) == before


def test_a_scan_that_is_killed_goes_on(crowd, tmp_path):
    catalog = Catalog(tmp_path / "catalog.duckdb")
    words = [sys.executable, "-c", "from cli.main import main; main()", "scan", "hf://crowd/*"]
    environment = {
        **os.environ,
        "REG_CATALOG": str(catalog.path),
        "PYTHONPATH": str(ZOO.parents[1]),
    }
    crowd.fault("/tree/", slow=0.15, times=None)
    started = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)
    while not (catalog.path.exists() and catalog.rows("select 1 from store.address limit 1")):
        assert started.poll() is None
        time.sleep(0.05)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    crowd.clear_faults()
    crowd.log.clear()
    done = catalog.rows("select uri from store.address union select uri from store.problem")
    assert 0 < len(done) < 305
    report = scan(catalog, ["hf://crowd/*"])
    assert (report.scanned, report.unchanged) == (305, len(done))
    assert len(crowd.log.find("/tree/")) == 305 - len(done)
    assert catalog.rows("select count(*) as n from store.address") == [{"n": 300}]
    assert orphans(catalog) == []


def test_requests_can_be_counted_out(hub, catalog):
    for i in range(12):
        hub.add(f"org/model-{i:02}", files(i))
    n_runs = 0
    while True:
        n_runs += 1
        try:
            scan(catalog, ["hf://org/*"], most_requests=20, jobs=2)
        except RequestsSpent:
            continue
        break
    assert 2 < n_runs < 12
    assert len(statuses(catalog)) == 12
    assert len(hub.log.find("/tree/")) <= 12 + 2 * n_runs


def test_a_repository_that_moves_leaves_nothing_behind(hub, catalog):
    hub.add("org/model", files(1))
    scan(catalog, ["hf://org/model"])
    hub.add("org/model", {**files(1), "README.md": b"# words"})
    assert scan(catalog, ["hf://org/model"]).updated == 1
    assert scan(catalog, ["hf://org/model"]).unchanged == 1
    assert len(catalog.rows("select * from store.address")) == 1


def test_a_repository_that_did_not_move_stays_when_another_is_new(hub, catalog):
    hub.add("me/old", files(1))
    scan(catalog, ["hf://me/old"])
    hub.add("me/new", files(2))
    report = scan(catalog, ["hf://me/new", "hf://me/old"])
    assert (report.new, report.unchanged, len(report.models)) == (1, 1, 2)
    assert statuses(catalog).keys() == {"me/new", "me/old"}


@pytest.mark.parametrize("to", ["https://elsewhere.example/api/models", "/api/models"])
def test_a_list_that_does_not_end_at_its_end_forgets_nobody(hub, catalog, to):
    for i, name in enumerate("abc"):
        hub.add(f"org/{name}", files(i))
    scan(catalog, ["hf://org/*"])
    body = json.dumps([{"id": "org/a", "sha": hub.repo("org/a").branches["main"]}]).encode()
    link = {"Link": f'<{to}?author=org>; rel="next"'}
    hub.fault(r"GET /api/models\?", times=3, status=200, body=body, headers=link)
    with pytest.raises(HubBusy, match="a next page that is none of its own"):
        scan(catalog, ["hf://org/*"])
    assert len(statuses(catalog)) == 3


def test_what_was_written_is_let_go(hub, catalog, monkeypatch):
    for i in range(6):
        hub.add(f"org/model-{i}", files(i))
    left = []

    def counted(scan, read):
        write(scan, read)
        gc.collect()
        left.append(sum(type(one) is hub_scan._Read for one in gc.get_objects()))

    write = hub_scan._write
    monkeypatch.setattr(hub_scan, "_write", counted)
    monkeypatch.setattr(hub_scan, "_BATCH", 1)
    scan(catalog, ["hf://org/*"])
    assert len(left) == 7
    assert left[-1] <= 1


def test_a_list_without_commits_forgets_nobody(hub, catalog):
    for i, name in enumerate("abc"):
        hub.add(f"org/{name}", files(i))
    scan(catalog, ["hf://org/*"])
    body = json.dumps([{"id": f"org/{name}"} for name in "abc"]).encode()
    hub.fault(r"GET /api/models\?", status=200, body=body)
    report = scan(catalog, ["hf://org/*"])
    assert (report.scanned, report.new, report.gone) == (3, 0, 0)
    assert sorted(statuses(catalog)) == ["org/a", "org/b", "org/c"]


def test_revisions_that_were_asked_for_stand_beside_the_newest(hub, catalog):
    hub.add("org/model", files(1))
    hub.tag("org/model", "v1")
    hub.add("org/model", files(2))
    scan(catalog, ["hf://org/model@v1"])
    scan(catalog, ["hf://org/*"])
    assert catalog.find("org/model@v1") != catalog.find("org/model")
    hub.add("org/model", files(3))
    scan(catalog, ["hf://org/model"])
    assert sorted(statuses(catalog)) == ["org/model", "org/model@v1"]


def test_a_renamed_repository_has_its_new_name(hub, catalog):
    hub.add("org/old", files(1))
    scan(catalog, ["hf://org/old"])
    hub.rename("org/old", "org/new")
    scan(catalog, ["hf://org/old"])
    assert statuses(catalog) == {"org/new": "header"}
    assert problems(catalog) == [("org/old", "HubRenamed")]


def test_names_that_are_wrong_are_problems_and_lists_that_are_wrong_are_errors(hub, catalog):
    hub.add("org/model", files(1))
    report = scan(catalog, ["hf://org/model", "hf://org/none", "hf://org/model@v9"])
    assert [p.error for p in report.problems] == ["HubMissing", "HubMissing"]
    assert [m.name for m in report.models] == ["org/model"]
    with pytest.raises(HubMissing):
        scan(catalog, ["hf:collection/org/none"])
    hub.add("org/none", files(2))
    assert [m.name for m in scan(catalog, ["hf://org/none"]).models] == ["org/none"]
    assert ("org/none", "HubMissing") not in problems(catalog)


def test_a_gated_repository_is_tried_again_when_it_is_named(hub, catalog, monkeypatch):
    hub.add("org/gated", files(1), gated=True)
    scan(catalog, ["hf://org/*"])
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert scan(catalog, ["hf://org/*"]).unchanged == 1
    assert [m.name for m in scan(catalog, ["hf://org/gated"]).models] == ["org/gated"]
    assert problems(catalog) == []


def test_a_hub_that_is_out_of_order_ends_the_scan_and_what_was_read_stays(hub, catalog, impatient):
    for i in range(40):
        hub.add(f"org/model-{i:02}", files(i))
    hub.fault("/tree/", status=503, times=None, after=5)
    with pytest.raises(HubBusy):
        scan(catalog, ["hf://org/*"], jobs=2)
    assert len(statuses(catalog)) == 5
    hub.clear_faults()
    assert scan(catalog, ["hf://org/*"]).scanned == 40
    assert problems(catalog) == []


def test_a_failure_that_passed_is_forgotten_and_nothing_else(hub, catalog, impatient):
    hub.add("org/model", files(1))
    scan(catalog, ["hf://org/model"])
    hub.fault("GET /api/models/org/model", status=503, times=None)
    scan(catalog, ["hf://org/model"])
    assert problems(catalog) == [("org/model", "HubBusy")]
    assert statuses(catalog) == {"org/model": "header"}
    hub.clear_faults()
    assert scan(catalog, ["hf://org/model"]).unchanged == 1
    assert problems(catalog) == []
    assert statuses(catalog) == {"org/model": "header"}


def test_claims_meet_across_the_hub_and_the_disk(hub, catalog, family):
    hub.add("org/base", family.base)
    card = b"---\nbase_model: org/base\nbase_model_relation: finetune\n---\n"
    hub.add("org/child", {**files(3), "README.md": card})
    scan(catalog, ["hf://org/*", str(family.base)])
    (edge,) = catalog.rows(
        "select child_name, parent_name, relation from edges where status = 'declared'"
    )
    assert (edge["child_name"], edge["relation"]) == ("org/child", "finetune")
    assert catalog.find("org/base") == catalog.find(str(family.base))


def test_offline_the_cache_stands_in(monkeypatch, catalog, hub):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for address in ("hf://org/model", "hf://org/*", "hf:search?search=x", "hf:collection/org/x"):
        with pytest.raises(Offline):
            scan(catalog, [address])
    assert len(list(hub.log)) == 0

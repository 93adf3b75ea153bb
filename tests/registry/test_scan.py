"""Scanning: what is found is known, what is unchanged costs nothing, what is gone is gone."""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import save_model
from opened import opened_weights
from safetensors.numpy import save_file
from scanned import content, orphans, statuses, tiny, with_card

from registry.catalog import Catalog
from registry.checkpoint import read_checkpoint
from registry.errors import BadAddress, CorruptCheckpoint, UnknownModel
from registry.fingerprint import digest_model, digest_tensors
from registry.resolve import mark_unresolved
from registry.scan import ensure, scan

ROOT = Path(__file__).parents[2]


# --- What is found


def test_a_family_is_found_whole(family, catalog):
    report = scan(catalog, [str(family.root)])
    assert (report.scanned, report.new, report.unchanged, report.updated) == (8, 8, 0, 0)
    assert report.gone == 0
    assert report.problems == ()
    assert [m.name for m in report.models] == [
        "adapter", "base", "chat", "cpt", "math", "original", "sharded", "stranger",
    ]  # fmt: skip
    assert {m.status for m in report.models} == {"full"}
    assert orphans(catalog) == []


def test_what_is_stored_is_what_is_there(family, catalog):
    scan(catalog, [str(family.chat)])
    (model,) = catalog.rows("select * from models where status = 'full'")
    tensors = catalog.rows("select * from tensors order by name")
    stored = family.weights["chat"]
    assert [t["name"] for t in tensors] == sorted(stored)
    assert model["n_params"] == sum(t.numel() for t in stored.values())
    assert model["n_bytes"] == 2 * model["n_params"]
    assert (model["dtype"], model["family"], model["license"]) == ("BF16", "llama", "apache-2.0")
    one = next(t for t in tensors if t["name"] == "model.layers.1.self_attn.q_proj.weight")
    assert (one["shape"], one["layer"], one["module"]) == ("[16, 16]", 1, "attention_q")
    files = catalog.rows("select path, format, size_bytes from files order by path")
    assert [f["path"] for f in files] == sorted(f.name for f in family.chat.iterdir())
    assert all(f["size_bytes"] == (family.chat / f["path"]).stat().st_size for f in files)


def test_one_model_at_two_addresses_has_two_names(family, catalog):
    scan(catalog, [str(family.base), str(family.sharded)])
    (model,) = catalog.rows("select name, names, addresses from models")
    assert model["name"] == "base"
    assert model["names"] == ["base", "sharded"]
    assert model["addresses"] == [str(family.base), str(family.sharded)]
    assert catalog.find("base") == catalog.find("sharded")


def test_a_copy_does_not_take_the_name_even_when_the_first_place_changes(tmp_path, catalog):
    first = tiny(tmp_path / "tree" / "z", 1.0)
    scan(catalog, [str(tmp_path / "tree")])
    shutil.copytree(first, tmp_path / "tree" / "a")
    scan(catalog, [str(tmp_path / "tree")])
    id_ = catalog.find("z")
    assert catalog.rows("select name from models") == [{"name": "z"}]
    with_card(first, "license: mit")
    assert scan(catalog, [str(tmp_path / "tree")]).updated == 1
    assert catalog.rows("select name, names from models") == [{"name": "z", "names": ["a", "z"]}]
    assert catalog.name(id_) == "z"
    shutil.rmtree(first)
    scan(catalog, [str(tmp_path / "tree")])
    assert catalog.name(id_) == "a"


def test_copies_with_one_card_and_its_scores_are_one_model_with_one_score(tmp_path, catalog):
    card = (
        "model-index:\n- name: x\n  results:\n  - task: {type: t}\n    dataset: {name: d, type: d}\n"
        "    metrics: [{type: accuracy, value: 0.5}]"
    )
    for name in ("a", "b"):
        with_card(tiny(tmp_path / "tree" / name, 1.0), card)
    report = scan(catalog, [str(tmp_path / "tree")])
    assert len({m.id for m in report.models}) == 1
    assert [r["value"] for r in catalog.rows("select value from scores")] == [0.5]


def test_an_address_given_twice_is_scanned_once(family, catalog):
    report = scan(catalog, [str(family.chat), str(family.chat), str(family.chat) + "/."])
    assert report.scanned == 1


def test_a_bare_file_is_a_checkpoint(tmp_path, catalog):
    save_file({"w": np.ones(3, np.float32)}, tmp_path / "loose.safetensors")
    report = scan(catalog, [str(tmp_path / "loose.safetensors")])
    assert [m.name for m in report.models] == ["loose"]
    assert scan(catalog, [str(tmp_path)]).unchanged == 1


def test_many_loose_files_in_one_folder_are_listed_once_each(tmp_path, catalog):
    for i in range(300):
        save_file({"w": np.full(3, i, np.float32)}, tmp_path / f"{i:03}.safetensors")
    started = time.monotonic()
    assert scan(catalog, [str(tmp_path)]).new == 300
    assert time.monotonic() - started < 20
    assert scan(catalog, [str(tmp_path)]).unchanged == 300


def test_an_address_that_does_not_exist_is_refused_before_anything_is_written(family, tmp_path):
    catalog = Catalog(tmp_path / "c.duckdb")
    with pytest.raises(BadAddress):
        scan(catalog, [str(family.base), str(tmp_path / "nowhere")])
    assert not catalog.path.exists()


def test_progress_counts_the_bytes_of_weights(family, catalog):
    class Listener:
        total = done = 0

        def start(self, what, total_bytes):
            assert what == "scan"
            self.total += total_bytes

        def advance(self, n_bytes):
            self.done += n_bytes

    listener = Listener()
    scan(catalog, [str(family.base)], progress=listener)
    weights = (family.base / "model.safetensors").stat().st_size
    assert listener.total == weights
    assert 0 < listener.done <= weights
    scan(catalog, [str(family.base)], progress=listener)
    assert listener.total == weights


# --- A second scan


def test_a_second_scan_writes_nothing_and_opens_no_weights(family, catalog):
    def again():
        return scan(catalog, [str(family.root)])

    first = opened_weights(again)
    assert {Path(file).parent.name for file in first} == {p.name for p in family.root.iterdir()}
    before = catalog.path.read_bytes(), catalog.path.stat().st_mtime_ns
    assert opened_weights(again) == []
    assert (catalog.path.read_bytes(), catalog.path.stat().st_mtime_ns) == before
    report = again()
    assert (report.unchanged, report.new, report.updated, report.gone) == (8, 0, 0, 0)
    assert [m.name for m in report.models][:2] == ["adapter", "base"]


def test_changed_weights_are_another_model(tmp_path, catalog):
    folder = tiny(tmp_path / "m", 1.0)
    old = scan(catalog, [str(folder)]).models[0].id
    tiny(folder, 2.0)
    report = scan(catalog, [str(folder)])
    assert (report.updated, report.new, report.unchanged) == (1, 0, 0)
    new = report.models[0].id
    assert new != old
    rows = {r["id"]: r for r in catalog.rows("select id, name, addresses from models")}
    assert rows[new]["addresses"] == [str(folder)]
    assert rows[old]["addresses"] == []
    assert rows[old]["name"] == old[:12]
    assert catalog.find("m") == new


def test_a_changed_card_changes_claims_and_nothing_else(tmp_path, catalog):
    folder = with_card(tiny(tmp_path / "m", 1.0), "base_model: org/old\nlicense: mit")
    old = scan(catalog, [str(folder)]).models[0].id
    with_card(folder, "base_model: org/new\nlicense: apache-2.0")
    assert scan(catalog, [str(folder)]).updated == 1
    assert [r["object"] for r in catalog.rows("select object from claims order by 1")] == [
        "apache-2.0",
        "org/new",
    ]
    assert statuses(catalog) == {"m": "full", "org/new": "latent"}
    assert catalog.find("m") == old
    assert [r["parent_name"] for r in catalog.rows("select * from edges")] == ["org/new"]


def test_a_vanished_folder_is_gone_and_its_model_stays(tmp_path, catalog):
    tree = tmp_path / "tree"
    base, chat = tiny(tree / "base", 1.0), tiny(tree / "chat", 2.0)
    with_card(chat, "base_model: base")
    scan(catalog, [str(tree)])
    old = catalog.find("base")
    shutil.rmtree(base)
    report = scan(catalog, [str(tree)])
    assert (report.scanned, report.gone, report.unchanged) == (1, 1, 1)
    (model,) = catalog.rows("select * from models where id = ?", [old])
    assert model["addresses"] == []
    assert model["name"] == "base"
    assert [r["parent"] for r in catalog.rows("select parent from edges")] == [old]
    assert catalog.rows("select 1 from files where starts_with(uri, ?)", [str(base)]) == []
    assert scan(catalog, [str(tree)]).gone == 0


def test_only_what_lies_below_the_scanned_folder_can_be_gone(tmp_path, catalog):
    tiny(tmp_path / "a", 1.0)
    tiny(tmp_path / "ab", 2.0)
    tiny(tmp_path / "b" / "c", 3.0)
    scan(catalog, [str(tmp_path)])
    shutil.rmtree(tmp_path / "ab")
    assert scan(catalog, [str(tmp_path / "a")]).gone == 0
    assert scan(catalog, [str(tmp_path / "b")]).gone == 0
    assert scan(catalog, [str(tmp_path)]).gone == 1


def test_a_bad_file_that_becomes_good_loses_its_problem_and_back(tmp_path, catalog):
    folder = tiny(tmp_path / "m", 1.0)
    good = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(good[:-4])
    report = scan(catalog, [str(folder)])
    assert [p.error for p in report.problems] == ["TruncatedFile"]
    assert report.models == ()
    assert scan(catalog, [str(folder)]).unchanged == 1
    (folder / "model.safetensors").write_bytes(good)
    report = scan(catalog, [str(folder)])
    assert report.problems == ()
    assert statuses(catalog) == {"m": "full"}
    (folder / "model.safetensors").write_bytes(good[:-4])
    report = scan(catalog, [str(folder)])
    assert [p.file for p in report.problems] == ["model.safetensors"]
    assert catalog.rows("select addresses from models") == [{"addresses": []}]


def test_what_may_pass_is_tried_again_and_not_written_again(tmp_path, catalog):
    folder = tiny(tmp_path / "m", 1.0)
    good = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")
    assert [p.error for p in scan(catalog, [str(folder)]).problems] == ["Unreadable"]
    before = catalog.path.read_bytes()
    assert len(opened_weights(lambda: scan(catalog, [str(folder)]))) == 1
    assert catalog.path.read_bytes() == before
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").write_bytes(good)
    assert scan(catalog, [str(folder)]).problems == ()


def test_what_changes_while_it_is_read_is_a_problem_and_no_model(tmp_path, catalog):
    folder = tiny(tmp_path / "m", 1.0)

    class Meddler:
        def start(self, what, total_bytes):
            pass

        def advance(self, n_bytes):
            os.utime(folder / "model.safetensors", ns=(1, 1))

    report = scan(catalog, [str(folder)], progress=Meddler())
    assert [(p.error, p.file) for p in report.problems] == [("FileChanged", "model.safetensors")]
    assert catalog.rows("select * from models") == []
    assert scan(catalog, [str(folder)]).problems == ()


# --- Headers


def test_headers_only_and_then_the_whole(tmp_path, catalog):
    base = tiny(tmp_path / "base", 1.0)
    with_card(tiny(tmp_path / "chat", 2.0), "base_model: base")
    report = scan(catalog, [str(tmp_path)], headers_only=True)
    assert {m.status for m in report.models} == {"header"}
    assert catalog.rows("select digest from tensors where digest is not null") == []
    old = catalog.find("base")
    with catalog.write() as transaction:
        for child, parent, status in (("x", old, "measured"), (old, "x", "inferred")):
            transaction.execute(
                "insert into store.edge values (?, ?, 'cast', 'parent', ?, null, 1, null, now(), null, null)",
                [child, parent, status],
            )
    assert scan(catalog, [str(tmp_path)], headers_only=True).unchanged == 2
    report = scan(catalog, [str(tmp_path)])
    assert (report.updated, report.unchanged) == (2, 0)
    assert statuses(catalog) == {"base": "full", "chat": "full"}
    assert [r["status"] for r in catalog.rows("select status from store.edge")] == ["declared"]
    assert orphans(catalog) == []
    assert catalog.find(str(base)) != old
    assert scan(catalog, [str(tmp_path)], headers_only=True).unchanged == 2


def test_headers_only_reads_no_tensor_byte(tmp_path, catalog):
    class Listener:
        def start(self, what, total_bytes):
            pytest.fail("there is nothing to count")

        def advance(self, n_bytes):
            pytest.fail("a tensor was read")

    tiny(tmp_path / "m", 1.0)
    scan(catalog, [str(tmp_path)], headers_only=True, progress=Listener())
    assert statuses(catalog) == {"m": "header"}


# --- The cache of the Hub


# --- Interrupted, and at the same time


def test_claims_left_by_an_interrupted_scan_are_resolved_by_the_next(family, catalog):
    scan(catalog, [str(family.root)])
    whole = content(catalog)
    with catalog.write() as transaction:  # as a scan killed before its end leaves it
        transaction.execute("delete from store.edge")
        transaction.execute("delete from store.evidence")
        transaction.execute("update store.claim set resolved_id = null")
        mark_unresolved(transaction)
    assert scan(catalog, [str(family.root)]).unchanged == 8
    assert content(catalog) == whole


# --- Ensure


def test_a_path_is_scanned_when_it_is_named(family, catalog):
    assert ensure(catalog, str(family.chat)) == catalog.find("chat")
    before = catalog.path.read_bytes()
    assert ensure(catalog, str(family.chat)) == ensure(catalog, "chat") == catalog.find("chat")
    assert catalog.path.read_bytes() == before


def test_a_name_in_the_catalog_wins_over_a_folder_of_that_name(tmp_path, catalog, monkeypatch):
    tiny(tmp_path / "known" / "m", 1.0)
    tiny(tmp_path / "here" / "m", 2.0)
    scan(catalog, [str(tmp_path / "known")])
    known = catalog.find("m")
    monkeypatch.chdir(tmp_path / "here")
    assert ensure(catalog, "m") == known
    assert ensure(catalog, "./m") != known


def test_what_cannot_be_used_says_why(tmp_path, catalog):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorruptCheckpoint, match="holds no safetensors file"):
        ensure(catalog, str(tmp_path / "empty"))
    for text in ("nowhere", "/no/where", "x" * 5000, "a\0b", "~nobody/x", ""):
        with pytest.raises(UnknownModel):
            ensure(catalog, text)


# --- Size


def test_the_family_of_the_tests_is_saved_as_told(tmp_path, catalog, family):
    save_model(tmp_path / "m", dict(family.weights["base"]), shards=2, card="license: mit")
    assert ensure(catalog, str(tmp_path / "m")) == ensure(catalog, str(family.base))


def test_digests_that_are_known_are_not_made_again(tmp_path, catalog):
    one, other = tiny(tmp_path / "one", 1), tiny(tmp_path / "other", 2)
    own = digest_tensors(read_checkpoint(one).tensors)
    known = own | {"norm": "0" * 64}
    (model,) = scan(catalog, [str(one)], digests=known).models
    assert model.id == digest_model(known)
    (read,) = scan(catalog, [str(other)], digests={"another": "0" * 64}).models
    assert read.id == digest_model(digest_tensors(read_checkpoint(other).tensors))

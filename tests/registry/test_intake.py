"""Listings become models, claims and edges; a second time nothing; and they give way to what is shown."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "bench"))

import listing_dump
from listings import BASE, CHAT, MERGE, all_rows, edges, listing, models, take_in

from registry import intake
from registry.catalog import Catalog
from registry.errors import BadListing, CatalogDamaged, NotEnoughDisk
from registry.intake import import_listings
from registry.license_report import licenses
from registry.scratch import scratch

# --- What rows become


def test_rows_become_listed_models_with_edges_claims_and_counts(tmp_path, catalog):
    report = take_in(catalog, tmp_path, CHAT, BASE, MERGE)
    assert (report.n_rows, report.n_new, report.n_bad, report.problems) == (3, 3, 0, ())
    assert models(catalog) == {
        "lab/base": "listed", "lab/chat": "listed", "lab/both": "listed", "gone/one": "latent"
    }  # fmt: skip
    assert edges(catalog) == [
        ("lab/both", "gone/one", "merge", "model", 0.85),
        ("lab/both", "lab/base", "merge", "model", 0.85),
        ("lab/both", "lab/chat", "merge", "model", 0.85),
        ("lab/chat", "lab/base", "finetune", "parent", 0.85),
    ]
    (chat,) = catalog.rows("from models where name = 'lab/chat'")
    assert (chat["downloads"], chat["likes"], chat["task"], chat["license"]) == (
        7,
        2,
        "text-generation",
        "mit",
    )
    assert chat["addresses"] == ["hf://lab/chat"]
    said = catalog.rows(
        "select predicate, object, relation, source, resolved, raw from claims order by model, object"
    )
    assert [tuple(row.values())[:5] for row in said] == [
        ("license", "apache-2.0", None, "listing", None),
        ("base_model", "Lab/Base", None, "listing", "lab/base"),
        ("base_model", "gone/one", None, "listing", "gone/one"),
        ("base_model", "lab/chat", None, "listing", "lab/chat"),
        ("base_model", "lab/base", "finetune", "listing", "lab/base"),
        ("license", "mit", None, "listing", None),
    ]
    assert len(catalog.rows("from evidence")) == 4
    assert catalog.find("LAB/chat") == catalog.find("hf://lab/chat") == chat["id"]
    found = licenses(catalog, [chat["id"]])[chat["id"]]
    assert found.declared == ("mit",)
    assert {held.origin for held in found.held} == {chat["id"], catalog.find("lab/base")}


def test_the_same_again_and_a_copy_of_it_write_nothing(tmp_path, catalog):
    take_in(catalog, tmp_path, CHAT, BASE, MERGE, "bad\n")
    before = all_rows(catalog)
    report = take_in(catalog, tmp_path, CHAT, BASE, MERGE, "bad\n")
    assert (report.n_new, report.n_changed, report.n_unchanged, report.n_bad) == (0, 0, 3, 1)
    assert all_rows(catalog) == before
    copy = take_in(catalog, tmp_path, MERGE, BASE, CHAT, name="copy.jsonl")
    assert copy.n_unchanged == 3
    assert all_rows(catalog) == before


def test_what_changed_is_replaced_and_nothing_else(tmp_path, catalog):
    take_in(catalog, tmp_path, CHAT, BASE, MERGE)
    since = catalog.rows("select uri, known_since from store.address order by 1")
    report = take_in(
        catalog, tmp_path, CHAT | {"base_model": "gone/one", "tags": []}, BASE, name="later.jsonl"
    )
    assert (report.n_new, report.n_changed, report.n_unchanged) == (0, 1, 1)
    assert ("lab/chat", "gone/one", "finetune", "parent", 0.85) in edges(catalog)
    assert len(edges(catalog)) == 4
    assert catalog.rows("select uri, known_since from store.address order by 1") == since
    take_in(catalog, tmp_path, MERGE | {"base_model": None}, CHAT, name="last.jsonl")
    assert edges(catalog) == [("lab/chat", "lab/base", "finetune", "parent", 0.85)]
    assert "gone/one" not in models(catalog)


def test_a_latent_model_that_is_listed_later_stays_the_same_node(tmp_path, catalog):
    take_in(catalog, tmp_path, CHAT)
    latent = catalog.find("lab/base") if "lab/base" in models(catalog) else ""
    assert models(catalog)["lab/base"] == "latent"
    before = edges(catalog)
    take_in(catalog, tmp_path, BASE, name="more.jsonl")
    assert models(catalog) == {"lab/base": "listed", "lab/chat": "listed"}
    assert catalog.find("lab/base") == latent
    assert edges(catalog) == before


def test_of_rows_about_one_model_the_last_one_counts(tmp_path, catalog):
    report = take_in(catalog, tmp_path, CHAT, BASE, CHAT | {"id": "Lab/CHAT", "likes": 99})
    assert (report.n_rows, report.n_new, report.n_repeated) == (3, 2, 1)
    assert catalog.rows("select likes from models where lower(name) = 'lab/chat'") == [
        {"likes": 99}
    ]


def test_a_model_that_names_itself_says_nothing(tmp_path, catalog):
    take_in(catalog, tmp_path, CHAT | {"base_model": "LAB/chat", "tags": []})
    assert edges(catalog) == []


# --- What goes wrong


def test_bad_rows_are_counted_and_told_and_cost_no_other(tmp_path, catalog):
    rows = ["{\n"] * 7 + [json.dumps({"id": "a\x1b[2J/b"}) + "\n", CHAT | {"likes": "many"}, BASE]
    report = take_in(catalog, tmp_path, *rows)
    assert (report.n_new, report.n_bad, report.n_partly) == (2, 8, 1)
    told = catalog.rows("select uri, file, error, detail from problems order by file")
    assert [row["file"] for row in told] == ["rows left out", "rows read in part"]
    assert told[0]["uri"] == f"listing:{tmp_path / 'hub.jsonl'}"
    assert told[0]["detail"].startswith("8 rows left out: line 1: is no JSON")
    assert told[0]["detail"].endswith("and 3 more")
    assert "lab/chat: likes is 'many'" in told[1]["detail"]
    take_in(catalog, tmp_path, CHAT, BASE)
    assert catalog.rows("from problems") == []


@pytest.mark.parametrize("rows", [[], ["no json\n"], [{"title": "x"}, {"title": "y"}]])
def test_a_file_without_one_good_row_is_refused_and_leaves_nothing(tmp_path, catalog, rows):
    take_in(catalog, tmp_path, BASE, name="good.jsonl")
    before = all_rows(catalog)
    bad = listing(tmp_path, *rows)
    with pytest.raises(BadListing) as caught:
        import_listings(catalog, [listing(tmp_path, CHAT, name="other.jsonl"), bad], form="jsonl")
    assert str(bad) in caught.value.message
    assert all_rows(catalog) == before
    assert sorted(file.name for file in catalog.path.parent.iterdir()) == ["catalog.duckdb"]


def test_ctrl_c_leaves_nothing_half(tmp_path, catalog, monkeypatch):
    file = listing(tmp_path, CHAT, BASE, MERGE)
    before = all_rows(catalog)
    for place in ("read_listing", "declare", "resolve_claims"):
        with monkeypatch.context() as patch:
            patch.setattr(intake, place, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                import_listings(catalog, [file])
        assert all_rows(catalog) == before
        assert sorted(file.name for file in catalog.path.parent.iterdir()) == ["catalog.duckdb"]
    assert import_listings(catalog, [file]).n_new == 3


def test_what_a_killed_import_left_goes_with_the_next_one_and_only_that(tmp_path, catalog):
    code = (
        "import os, signal, sys; from pathlib import Path; from registry import intake; "
        "from registry.catalog import Catalog; "
        "intake.read_listing = lambda *_: os.kill(os.getpid(), signal.SIGKILL); "
        "intake.import_listings(Catalog(Path(sys.argv[1])), [Path(sys.argv[2])])"
    )
    file = listing(tmp_path, CHAT, BASE)
    killed = subprocess.run([sys.executable, "-c", code, catalog.path, file], check=False)
    assert killed.returncode == -signal.SIGKILL
    place = catalog.path.parent
    assert len(list(place.glob(".import-*/rows/rows.duckdb"))) == 1
    with scratch(catalog.path) as mine:  # another process may be at work in one
        assert import_listings(catalog, [file]).n_new == 2
        assert sorted(f.name for f in place.iterdir()) == sorted([mine.name, "catalog.duckdb"])
    assert [f.name for f in place.iterdir()] == ["catalog.duckdb"]


def test_a_place_where_no_catalog_can_be_is_named(tmp_path):
    file = listing(tmp_path, CHAT)
    with pytest.raises(CatalogDamaged, match="cannot be made: Not a directory"):
        import_listings(Catalog(file / "sub" / "catalog.duckdb"), [file])


def test_a_disk_that_is_full_is_told_of_the_catalogs_folder(tmp_path, catalog, monkeypatch):
    file = listing(tmp_path, CHAT)

    def full(*_):
        message = "/x/.import-1/rows.duckdb: No space left on device"
        raise NotEnoughDisk(message, hint="free some")

    monkeypatch.setattr(intake._Staging, "read", full)
    with pytest.raises(NotEnoughDisk) as caught:
        import_listings(catalog, [file])
    assert str(catalog.path.parent) in caught.value.message
    assert ".import-" not in caught.value.message


def test_a_file_whose_name_is_no_text_is_read_too(tmp_path, catalog):
    file = tmp_path / os.fsdecode(b"\xff.jsonl")
    file.write_text(json.dumps(CHAT) + "\nbad\n")
    assert import_listings(catalog, [file]).n_new == 1
    before = all_rows(catalog)
    assert import_listings(catalog, [file]).n_unchanged == 1
    assert all_rows(catalog) == before


# --- Many


def test_twenty_thousand_rows_hang_together_as_they_say(tmp_path, catalog):
    file = tmp_path / "many.jsonl"
    listing_dump.write(file, 20_000)
    report = import_listings(catalog, [file])
    assert (report.n_new, report.n_bad, report.n_partly) == (20_000, 0, 0)
    rows = list(listing_dump.rows(20_000, 0))
    said = {
        (row["id"], parent)
        for row in rows
        for parent in (
            [row["base_model"]] if isinstance(row["base_model"], str) else row["base_model"] or ()
        )
    }
    found = catalog.rows("select child_name as child, parent_name as parent from edges")
    assert {(row["child"], row["parent"]) for row in found} == said
    assert len(found) == len(said)
    named = {parent for _, parent in said} - {row["id"] for row in rows}
    latent = catalog.rows("select name from models where status = 'latent'")
    assert {row["name"] for row in latent} == named
    again = import_listings(catalog, [file])
    assert again.n_unchanged == 20_000

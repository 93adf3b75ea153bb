"""The Hugging Face cache, scanned whole, by name and by revision."""

import shutil
from pathlib import Path

import pytest
from scanned import tiny, with_card

from registry.scan import ensure, scan

ROOT = Path(__file__).parents[2]

_opened: list[str] = []
_is_watching = False


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache with two snapshots of one repository and one of another."""
    cache = tmp_path / "hub"
    for name, commit, value in (("org--base", "a" * 40, 1.0), ("org--base", "b" * 40, 2.0),
                                ("org--chat", "c" * 40, 3.0)):  # fmt: skip
        repository = cache / f"models--{name}"
        made = tiny(tmp_path / "made" / commit[:4], value)
        if name == "org--chat":
            with_card(made, "base_model: org/base")
        snapshot = repository / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (repository / "blobs").mkdir(exist_ok=True)
        for file in made.iterdir():
            blob = repository / "blobs" / f"{commit[:4]}-{file.name}"
            file.rename(blob)
            (snapshot / file.name).symlink_to(Path("../../blobs") / blob.name)
    (cache / "models--org--base" / "refs").mkdir()
    (cache / "models--org--base" / "refs" / "main").write_text("b" * 40)
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    return cache


def test_the_cache_is_scanned_by_name(hub, catalog):
    report = scan(catalog, ["hf-cache:"])
    assert (report.scanned, report.problems) == (3, ())
    rows = catalog.rows("select uri, source, name from store.address order by uri")
    assert [(r["uri"], r["source"], r["name"]) for r in rows] == [
        (f"hf-cache:org/base@{'a' * 40}", "hf-cache", "org/base"),
        (f"hf-cache:org/base@{'b' * 40}", "hf-cache", "org/base"),
        (f"hf-cache:org/chat@{'c' * 40}", "hf-cache", "org/chat"),
    ]
    assert scan(catalog, ["hf-cache:"]).unchanged == 3


def test_one_revision_of_the_cache_is_scanned(hub, catalog):
    assert scan(catalog, ["hf-cache:org/base@main"]).scanned == 1
    assert scan(catalog, ["hf-cache:org/base"]).unchanged == 1
    assert catalog.find(f"hf-cache:org/base@{'b' * 40}") == catalog.find(
        str(hub / "models--org--base" / "snapshots" / ("b" * 40))
    )


def test_the_cache_is_found_through_hf_home(hub, catalog, monkeypatch):
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.setenv("HF_HOME", str(hub.parent))
    assert scan(catalog, ["hf-cache:"]).new == 3


def test_a_snapshot_that_left_the_cache_is_gone(hub, catalog):
    scan(catalog, ["hf-cache:"])
    shutil.rmtree(hub / "models--org--base" / "snapshots" / ("a" * 40))
    assert scan(catalog, ["hf-cache:org/chat"]).gone == 0
    assert scan(catalog, ["hf-cache:org/base@main"]).gone == 0
    assert scan(catalog, ["hf-cache:org/base"]).gone == 1
    shutil.rmtree(hub / "models--org--chat")
    assert scan(catalog, ["hf-cache:"]).gone == 1


def test_another_cache_takes_nothing_away(hub, catalog, tmp_path, monkeypatch):
    scan(catalog, ["hf-cache:"])
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "other"))
    report = scan(catalog, ["hf-cache:"])
    assert (report.scanned, report.gone) == (0, 0)


def test_a_cached_repository_is_scanned_when_it_is_named(hub, catalog):
    assert ensure(catalog, "hf-cache:org/chat") == catalog.find("org/chat")

"""Of two scans that overlap, the one that looked later is believed, whichever writes last."""

import shutil

import pytest
from hub.server import LocalHub
from scanned import content, tiny

import registry.hub_scan
import registry.scan
from registry.catalog import Catalog
from registry.scan import scan


def meanwhile(monkeypatch, module, name, *, do):
    """Let something happen once, right after a step of a scan."""
    real = getattr(module, name)

    def step(*args, **kwargs):
        done = real(*args, **kwargs)
        monkeypatch.setattr(module, name, real)
        do()
        return done

    monkeypatch.setattr(module, name, step)


def uris(catalog):
    return [row["uri"] for row in catalog.rows("select uri from store.address order by uri")]


def test_a_model_that_comes_while_a_scan_walks_is_not_forgotten(catalog, tmp_path, monkeypatch):
    tree = tmp_path / "models"
    tiny(tree / "a", 1.0)
    real = registry.scan.find

    def walk(address):
        found = list(real(address))
        if address.path == tree:
            monkeypatch.setattr(registry.scan, "find", real)
            scan(Catalog(catalog.path), [str(tiny(tree / "b", 2.0))])
        return iter(found)

    monkeypatch.setattr(registry.scan, "find", walk)
    scan(catalog, [str(tree)])
    assert uris(catalog) == [str(tree / "a"), str(tree / "b")]


def test_what_is_really_gone_is(catalog, tmp_path):
    tree = tmp_path / "models"
    tiny(tree / "a", 1.0)
    tiny(tree / "b", 2.0)
    scan(catalog, [str(tree)])
    shutil.rmtree(tree / "a")
    (tree / "b" / "model.safetensors").unlink()
    (tree / "b" / "config.json").unlink()
    (tree / "b" / "notes.txt").write_text("no model any more")
    tiny(tree / "c", 3.0)
    report = scan(catalog, [str(tree)])
    assert report.gone == 2
    assert uris(catalog) == [str(tree / "c")]


@pytest.mark.parametrize("first", [False, True], ids=["unknown", "known"])
def test_who_read_before_a_change_does_not_overwrite_who_read_after(
    *, catalog, tmp_path, monkeypatch, first
):
    folder = tiny(tmp_path / "a", 1.0)
    if first:
        scan(catalog, [str(folder)])
        tiny(folder, 2.0, seen="changed")

    def change():
        tiny(folder, 30.0, seen="later, and longer")
        scan(Catalog(catalog.path), [str(folder)])

    meanwhile(monkeypatch, registry.scan, "read_entry", do=change)
    scan(catalog, [str(folder)])
    alone = Catalog(tmp_path / "alone.duckdb")
    scan(alone, [str(folder)])
    rows = [content(each)["address"] for each in (catalog, alone)]
    assert rows[0] == rows[1]


def test_without_a_second_scan_what_was_read_is_written_even_if_it_changed(
    catalog, tmp_path, monkeypatch
):
    folder = tiny(tmp_path / "a", 1.0)
    meanwhile(monkeypatch, registry.scan, "read_entry", do=lambda: tiny(folder, 2.0, longer="yes"))
    scan(catalog, [str(folder)])
    assert uris(catalog) == [str(folder)]


def test_a_repository_that_comes_while_its_owner_is_listed_is_not_forgotten(
    catalog, family, monkeypatch, hub: LocalHub
):
    hub.add("lab/a", family.base)

    def push():
        hub.add("lab/b", family.chat)
        scan(Catalog(catalog.path), ["hf://lab/b"])

    real = registry.hub_scan._targets

    def listed(*args):
        found = list(real(*args))
        monkeypatch.setattr(registry.hub_scan, "_targets", real)
        push()
        return iter(found)

    monkeypatch.setattr(registry.hub_scan, "_targets", listed)
    scan(catalog, ["hf://lab/*"])
    assert [uri.partition("@")[0] for uri in uris(catalog)] == ["hf://lab/a", "hf://lab/b"]

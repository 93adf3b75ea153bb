"""What the operating system refuses today says nothing against what was read yesterday."""

import errno
import os
from contextlib import contextmanager

import pytest
from scanned import tiny, with_card

from registry import documents
from registry.catalog import Catalog, default_path
from registry.errors import CatalogDamaged, CatalogMissing, Unreadable
from registry.scan import scan


@contextmanager
def refused(monkeypatch, path):
    """Let a file, or the listing of a folder, be refused; permissions do not keep everybody out."""
    opened, listed = os.open, os.scandir

    def refuse(real, name, *words, **options):
        if os.fspath(name) == str(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(name))
        return real(name, *words, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", lambda *w, **o: refuse(opened, *w, **o))
        patch.setattr(os, "scandir", lambda *w, **o: refuse(listed, *w, **o))
        yield


def known(catalog):
    """Everything that is known of places, but for when."""
    return [
        catalog.rows(f"select columns(c -> c <> 'seen_at') from store.{table} order by all")
        for table in ("address", "file", "claim")
    ]


def problems(catalog):
    return [row["error"] for row in catalog.rows("select error from store.problem order by all")]


def test_what_lies_below_a_folder_that_may_not_be_listed_is_not_gone(catalog, tmp_path, monkeypatch):  # fmt: skip
    for name in ("a", "b/c"):
        with_card(tiny(tmp_path / "models" / name, 1.0), "license: mit")
    scan(catalog, [str(tmp_path / "models")])
    before = known(catalog)
    for closed in ("", "b"):
        with refused(monkeypatch, tmp_path / "models" / closed):
            report = scan(catalog, [str(tmp_path / "models")])
        assert report.gone == 0
        assert known(catalog) == before
        assert problems(catalog) == ["Unreadable"]
        assert scan(catalog, [str(tmp_path / "models")]).problems == ()


def test_a_place_that_cannot_be_read_stays_what_it_was(catalog, tmp_path, monkeypatch):
    folder = with_card(tiny(tmp_path / "m", 1.0), "base_model: someone/base")
    scan(catalog, [str(folder)])
    before = known(catalog)
    with refused(monkeypatch, folder):
        report = scan(catalog, [str(folder)])
    assert [m.name for m in report.models] == ["m"]
    assert [p.error for p in report.problems] == ["Unreadable"]
    assert known(catalog) == before
    monkeypatch.setattr("registry.entry.digest_tensors", None)  # no weight is read again
    assert scan(catalog, [str(folder)]).problems == ()
    assert known(catalog) == before


def test_a_config_that_could_not_be_read_is_read_the_next_time(catalog, tmp_path, monkeypatch):
    folder = tiny(tmp_path / "m", 1.0)
    with refused(monkeypatch, folder / "config.json"):
        report = scan(catalog, [str(folder)])
    assert [p.error for p in report.problems] == ["Unreadable"]
    assert report.models == ()  # without its config it would be another model
    report = scan(catalog, [str(folder)])
    assert report.problems == ()
    assert catalog.rows("select family from models where status = 'full'") == [{"family": "tiny"}]


def test_a_card_that_could_not_be_read_is_read_the_next_time_and_no_weight_again(catalog, tmp_path, monkeypatch):  # fmt: skip
    folder = with_card(tiny(tmp_path / "m", 1.0), "license: mit")
    with refused(monkeypatch, folder / "README.md"):
        assert [p.error for p in scan(catalog, [str(folder)]).problems] == ["Unreadable"]
        rows = catalog.rows("select * from store.address")
        scan(catalog, [str(folder)])
        assert catalog.rows("select * from store.address") == rows  # nothing new, nothing written
    monkeypatch.setattr("registry.entry.digest_tensors", None)
    report = scan(catalog, [str(folder)])
    assert report.problems == ()
    assert catalog.rows("select license from models where status = 'full'") == [{"license": "mit"}]


def test_a_file_of_a_century_that_no_column_knows_is_scanned(catalog, tmp_path):
    folder = tiny(tmp_path / "m", 1.0)
    os.utime(folder / "config.json", ns=(0, 13_000_000_000 * 10**9))
    assert scan(catalog, [str(folder)]).new == 1
    assert scan(catalog, [str(folder)]).unchanged == 1


def test_weights_that_were_rewritten_with_their_old_time_are_no_model(catalog, tmp_path, monkeypatch):  # fmt: skip
    folder = tiny(tmp_path / "m", 1.0)
    weights = folder / "model.safetensors"

    def rewritten(tensors, **options):
        found = {tensor.name: "0" * 64 for tensor in tensors}
        status = weights.stat()
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
        os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
        return found

    monkeypatch.setattr("registry.entry.digest_tensors", rewritten)
    report = scan(catalog, [str(folder)])
    assert [p.error for p in report.problems] == ["FileChanged"]
    assert report.models == ()


def test_somebody_without_a_home_is_told_to_name_a_catalog(monkeypatch, tmp_path):
    def nobody():
        raise RuntimeError

    for name in ("REG_CATALOG", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("registry.catalog.Path.home", nobody)
    with pytest.raises(CatalogMissing, match="home") as caught:
        default_path()
    assert "REG_CATALOG" in caught.value.hint


def test_a_pipe_in_the_place_of_the_catalog_is_not_waited_for(catalog):
    catalog.path.unlink()
    os.mkfifo(catalog.path)
    with pytest.raises(CatalogDamaged, match="no file"), catalog.write():
        pass


def test_a_catalog_may_have_the_longest_name_that_there_is(tmp_path):
    made = Catalog(tmp_path / ("n" * 250))
    with made.write() as transaction:
        transaction.insert("setting", {"key": ["k"], "value": ["v"]})
    assert [path.name for path in tmp_path.iterdir()] == ["n" * 250]
    assert made.is_made


def test_a_document_that_may_not_be_read_is_not_a_bad_one(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("{}")
    with refused(monkeypatch, tmp_path / "config.json"), pytest.raises(Unreadable, match="denied"):
        documents.read_json(tmp_path / "config.json")

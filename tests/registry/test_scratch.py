"""Folders beside the catalog: gone in the end, and whose process died, with the next one."""

import errno
import os

import pytest

from registry.errors import CatalogDamaged, NotEnoughDisk
from registry.scratch import scratch


def test_it_is_gone_whatever_happened_in_it(tmp_path):
    catalog = tmp_path / "deep" / "catalog.duckdb"

    def interrupted():
        with scratch(catalog) as folder:
            (folder / "rows").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(catalog.parent.iterdir()) == []


def test_what_nobody_holds_is_swept_and_what_somebody_holds_or_made_is_not(tmp_path):
    catalog = tmp_path / "catalog.duckdb"
    left = tmp_path / ".import-left"
    left.mkdir()
    (left / "rows.duckdb").write_text("x")
    other = tmp_path / ".imported"
    other.mkdir()
    (tmp_path / ".import-link").symlink_to(other)
    with scratch(catalog) as mine, scratch(catalog) as second:
        assert mine.is_dir()
        assert second.is_dir()
        assert not left.exists()
        assert other.is_dir()


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, NotEnoughDisk), (errno.EACCES, CatalogDamaged)]
)
def test_a_place_that_takes_none_is_named(tmp_path, monkeypatch, number, kind):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("registry.workroom.locked", refuse)
    with pytest.raises(kind, match=str(tmp_path)), scratch(tmp_path / "catalog.duckdb"):
        pass

"""The folder a merge makes: whole under its name, or not there."""

import os
import shutil
from types import SimpleNamespace

import pytest

from engine.output import place, refuse_full_disk, unfinished
from registry.errors import NotEnoughDisk, OutputExists, RunFailed
from registry.names import parse
from registry.sources import find


def test_a_new_and_an_empty_folder_will_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert place(tmp_path / "new") == tmp_path / "new"
    assert place(type(tmp_path)("empty")) == tmp_path / "empty"


def test_what_is_there_is_never_overwritten(tmp_path):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for output in (tmp_path, tmp_path / "file"):
        with pytest.raises(OutputExists, match="exists and is not empty"):
            place(output)


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "dangling").symlink_to("later")
    assert place(tmp_path / "link") == tmp_path / "real"
    assert place(tmp_path / "dangling") == tmp_path / "later"


def test_a_file_among_the_parents_is_named(tmp_path):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(RunFailed, match=r"cannot make .*file"):
        refuse_full_disk(place(tmp_path / "file" / "out"), 1)


def test_what_cannot_fit_is_refused(tmp_path):
    with pytest.raises(NotEnoughDisk, match=r"1,000,000,000,000,000,000 bytes; .* free"):
        refuse_full_disk(tmp_path / "out", 10**18)


def test_room_that_an_unfinished_folder_has_counts_as_free(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    folder = tmp_path / ".out.01234567.partial"
    refuse_full_disk(tmp_path / "out", 1000, started=folder)
    with pytest.raises(NotEnoughDisk, match="1,000 free"):
        refuse_full_disk(tmp_path / "out", 1001, started=folder)
    folder.mkdir()
    (folder / "shard").write_bytes(bytes(1 << 20))
    (folder / "link").symlink_to(folder / "shard")
    refuse_full_disk(tmp_path / "out", 1000 + (1 << 20), started=folder)
    with pytest.raises(NotEnoughDisk):
        refuse_full_disk(tmp_path / "out", 3 << 20, started=folder)


def test_an_unfinished_folder_that_takes_its_name_while_it_is_looked_at_has_no_room(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    folder, real = tmp_path / ".out.01234567.partial", os.lstat
    folder.mkdir()
    for name in ("one", "two"):
        (folder / name).write_bytes(bytes(1 << 20))

    def late(path):
        if folder.exists() and str(folder) in str(path):
            folder.rename(tmp_path / "out")
        return real(path)

    monkeypatch.setattr(os, "lstat", late)
    with pytest.raises(NotEnoughDisk, match="1,000 free"):
        refuse_full_disk(tmp_path / "out", 1001, started=folder)


@pytest.mark.parametrize("there", [False, True])
def test_the_folder_takes_its_name_when_it_is_whole(there, tmp_path):
    output = tmp_path / "out"
    if there:
        output.mkdir()
    with unfinished(output) as folder:
        assert folder.parent == tmp_path
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text("x", encoding="utf-8")
        assert not there or not list(output.iterdir())
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (output / "inner" / "file").read_text(encoding="utf-8") == "x"


def fail(output, error):
    with unfinished(output) as folder:
        (folder / "file").write_text("x", encoding="utf-8")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_nothing(error, tmp_path):
    with pytest.raises(error):
        fail(tmp_path / "out", error)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("number", "kind"), [(28, NotEnoughDisk), (13, RunFailed)])
def test_what_the_system_refuses_has_a_name(number, kind, tmp_path):
    with pytest.raises(kind, match=r"cannot write .*out"):
        fail(tmp_path / "out", OSError(number, os.strerror(number)))
    assert not list(tmp_path.iterdir())


def race(output):
    with unfinished(output) as slow:
        (slow / "who").write_text("slow", encoding="utf-8")
        with unfinished(output) as fast:
            (fast / "who").write_text("fast", encoding="utf-8")


def test_the_faster_of_two_runs_wins(tmp_path):
    with pytest.raises(OutputExists):
        race(tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "who").read_text(encoding="utf-8") == "fast"


def test_an_unfinished_folder_is_never_scanned(tmp_path, family):
    (tmp_path / "models").mkdir()
    with unfinished(tmp_path / "models" / "out") as folder:
        for name in ("model.safetensors", "config.json"):
            (folder / name).write_bytes((family.base / name).read_bytes())
        assert not [found for found in find(parse(str(tmp_path))) if found.files]
    assert [found.name for found in find(parse(str(tmp_path)))] == ["out"]

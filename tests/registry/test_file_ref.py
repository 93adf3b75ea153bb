"""Files of a folder: their formats, their status, and whether they lie in it."""

import errno
import os
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from registry.errors import PathEscapes, Unreadable
from registry.file_ref import list_files, list_folder, resolve_inside

FORMATS = {
    "model.safetensors": "safetensors",
    "MODEL.SAFETENSORS": "safetensors",
    "model.safetensors.index.json": "index",
    "pytorch_model.bin.index.json": "other",
    "config.json": "config",
    "adapter_config.json": "adapter_config",
    "generation_config.json": "generation_config",
    "tokenizer.json": "tokenizer",
    "tokenizer.model": "tokenizer",
    "vocab.txt": "tokenizer",
    "README.md": "card",
    "mergekit_config.yml": "recipe",
    "recipe.yaml": "recipe",
    "homolog.json": "sidecar",
    "pytorch_model.bin": "pickle",
    "model.pt": "pickle",
    "x.gguf": "gguf",
    "tf_model.h5": "other",
    "flax_model.msgpack": "other",
    "LICENSE": "other",
    "._model.safetensors": "other",
    ".hidden": "other",
}


def test_formats_are_told_by_name(tmp_path):
    for name in FORMATS:
        (tmp_path / name).touch()
    assert {ref.path: ref.format for ref in list_files(tmp_path)} == FORMATS


def test_files_are_listed_in_order_with_their_status(tmp_path):
    for name in ("b", "a", "C"):
        (tmp_path / name).write_bytes(b"xyz")
    (tmp_path / "folder").mkdir()
    refs = list_files(tmp_path)
    assert [ref.path for ref in refs] == ["C", "a", "b"]
    status = (tmp_path / "C").stat()
    assert (refs[0].size_bytes, refs[0].mtime_ns, refs[0].inode) == (
        3,
        status.st_mtime_ns,
        status.st_ino,
    )


def test_evaluation_results_are_listed_with_their_folder(tmp_path):
    (tmp_path / ".eval_results").mkdir()
    (tmp_path / ".eval_results" / "gsm8k.yaml").touch()
    (tmp_path / ".eval_results" / "notes.txt").touch()
    files, folders = list_folder(tmp_path)
    assert [(ref.path, ref.format) for ref in files] == [
        (".eval_results/gsm8k.yaml", "eval"),
        (".eval_results/notes.txt", "other"),
    ]
    assert folders == (".eval_results",)
    assert resolve_inside(tmp_path, ".eval_results/gsm8k.yaml").is_file()


def test_links_that_lead_nowhere_or_in_a_circle_are_listed_as_such(tmp_path):
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "up").symlink_to(tmp_path)
    assert [(ref.path, ref.dangling) for ref in list_files(tmp_path)] == [
        ("circle", True),
        ("gone", True),
    ]


def test_a_name_that_is_not_utf8_is_listed_as_text_and_as_nothing_we_open(tmp_path):
    with open(os.fsencode(tmp_path) + b"/\xff.safetensors", "wb"):
        pass
    (ref,) = list_files(tmp_path)
    assert (ref.path, ref.format) == (r"\udcff.safetensors", "other")
    ref.path.encode()


def test_a_bare_file_lists_itself(tmp_path):
    (tmp_path / "a.safetensors").touch()
    (tmp_path / "b.safetensors").touch()
    assert [ref.path for ref in list_files(tmp_path / "a.safetensors")] == ["a.safetensors"]


def test_what_is_not_there_cannot_be_listed(tmp_path):
    with pytest.raises(Unreadable, match="no such file"):
        list_files(tmp_path / "a")
    with pytest.raises(Unreadable, match="cannot be listed: No such file"):
        list_folder(tmp_path / "a")


def test_a_folder_in_which_nothing_but_names_may_be_read_cannot_be_listed(tmp_path, monkeypatch):
    """Else all its files would seem to have changed, and what is known of them to be gone."""

    def entry(name, *, is_link):
        def stat():
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        told = {"is_dir": lambda **_: False, "is_symlink": lambda: is_link, "stat": stat}
        return SimpleNamespace(name=name, path=str(tmp_path / name), **told)

    entries = [entry("link", is_link=True)]
    monkeypatch.setattr(os, "scandir", lambda _: nullcontext(iter(list(entries))))
    assert list_folder(tmp_path)[0][0].dangling
    entries.append(entry("model.safetensors", is_link=False))
    with pytest.raises(Unreadable, match="cannot be listed: Permission denied"):
        list_folder(tmp_path)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc/passwd", "a\\b", "a\0b", ".eval_results/../x"]
)
def test_only_plain_names_lie_inside(tmp_path, name):
    with pytest.raises(PathEscapes, match="not the name of a file"):
        resolve_inside(tmp_path, name)


def test_links_may_stay_in_the_folder_and_not_leave_it(tmp_path):
    folder, outside = tmp_path / "model", tmp_path / "secret"
    folder.mkdir()
    outside.touch()
    (folder / "real").touch()
    (folder / "inner").symlink_to("real")
    (folder / "outer").symlink_to("../secret")
    (folder / "chain").symlink_to("outer")
    assert resolve_inside(folder, "inner") == folder / "inner"
    for name in ("outer", "chain"):
        with pytest.raises(PathEscapes, match="leaves the folder") as caught:
            resolve_inside(folder, name)
        assert str(outside) in caught.value.message


def test_a_linked_folder_of_results_is_not_entered(tmp_path):
    folder, outside = tmp_path / "model", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (outside / "a.yaml").touch()
    (folder / ".eval_results").symlink_to(outside)
    assert list_files(folder) == ()
    with pytest.raises(PathEscapes):
        resolve_inside(folder, ".eval_results/a.yaml")


def test_the_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a").touch()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "b").symlink_to("a")
    assert resolve_inside(tmp_path / "link", "b").is_file()


def blob(cache, repository, *, where):
    """A snapshot with one link to a blob, by the layouts of the cache."""
    snapshot = cache / repository / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    target = cache / where
    target.parent.mkdir(parents=True, exist_ok=True)
    target.touch()
    (snapshot / "config.json").symlink_to(os.path.relpath(target, snapshot))
    return snapshot


@pytest.mark.parametrize(
    "where", ["models--o--a/blobs/ab12", "models--o--b/blobs/ab12", "blobs/ab/ab12"]
)
def test_links_of_a_cache_may_lead_to_its_blobs(tmp_path, where):
    snapshot = blob(tmp_path / "hub", "models--o--a", where=where)
    assert resolve_inside(snapshot, "config.json") == snapshot / "config.json"


@pytest.mark.parametrize(
    "where",
    [
        "secret",
        "blobs/secret",
        "models--o--a/refs/main",
        "x/blobs/ab12",
        "../other/models--o--a/blobs/ab12",
    ],
)
def test_links_of_a_cache_lead_nowhere_else(tmp_path, where):
    snapshot = blob(tmp_path / "hub", "models--o--a", where=where)
    with pytest.raises(PathEscapes):
        resolve_inside(snapshot, "config.json")


def test_blobs_are_no_excuse_outside_a_cache(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "models--o--a" / "blobs").mkdir(parents=True)
    (tmp_path / "models--o--a" / "blobs" / "ab12").touch()
    (folder / "config.json").symlink_to("../models--o--a/blobs/ab12")
    with pytest.raises(PathEscapes):
        resolve_inside(folder, "config.json")

"""The Hugging Face cache: what the library's own listing finds we find, and more when it is damaged."""

import os
import subprocess
import sys

import pytest
from huggingface_hub import scan_cache_dir
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.hub_cache import location, repository_folder, repository_name, snapshots

COMMITS = ["1" * 40, "12" + "3" * 38]


def add(cache, repository, commit, files, refs=()):
    """Write a snapshot as the library lays it out: links to blobs."""
    root = cache / repository_folder(repository)
    for name, content in files.items():
        blob = root / "blobs" / f"{abs(hash(content)):040x}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link = root / "snapshots" / commit / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    for ref in refs:
        (root / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
        (root / "refs" / ref).write_text(commit)
    return root / "snapshots" / commit


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    add(folder, "org/name", COMMITS[0], {"config.json": b"{}"}, refs=["main", "refs/pr/1"])
    add(folder, "org/name", COMMITS[1], {"config.json": b"{ }"}, refs=["v1"])
    add(folder, "gpt2", COMMITS[0], {"config.json": b"{  }"}, refs=["main"])
    return folder


def test_the_librarys_listing_and_ours_agree(cache):
    add(cache, "datasets", COMMITS[0], {"a": b"a"})
    (cache / "datasets--org--data" / "snapshots" / COMMITS[0]).mkdir(parents=True)
    (cache / "datasets--org--data" / "blobs").mkdir()
    judged = scan_cache_dir(cache)
    expected = {
        (repo.repo_id, revision.commit_hash)
        for repo in judged.repos
        if repo.repo_type == "model"
        for revision in repo.revisions
    }
    found = list(snapshots())
    assert {(s.name, s.commit) for s in found} == expected
    assert len(expected) == 4
    assert [(s.name, s.commit) for s in found] == sorted(
        expected, key=lambda s: (repository_folder(s[0]), s[1])
    )


def test_one_broken_link_costs_the_library_a_repository_and_us_nothing(cache):
    (cache / repository_folder("gpt2") / "snapshots" / COMMITS[0] / "model.safetensors").symlink_to(
        "../gone"
    )
    assert "gpt2" not in {repo.repo_id for repo in scan_cache_dir(cache).repos}
    assert [s.commit for s in snapshots("gpt2")] == [COMMITS[0]]


@pytest.mark.parametrize(
    ("revision", "commits"),
    [
        (None, COMMITS),
        ("main", COMMITS[:1]),
        ("v1", COMMITS[1:]),
        ("refs/pr/1", COMMITS[:1]),
        (COMMITS[1], COMMITS[1:]),
        ("12", COMMITS[1:]),
        ("1", COMMITS),
        ("dev", []),
    ],
)
def test_a_revision_is_a_branch_a_tag_or_the_beginning_of_a_commit(cache, revision, commits):
    assert [s.commit for s in snapshots("org/name", revision)] == commits


def test_a_repository_that_is_not_cached_has_no_snapshots(cache):
    assert list(snapshots("org/other")) == []


def test_a_cache_that_does_not_exist_is_empty(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "nothing"))
    assert list(snapshots()) == []


PART = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._]{0,5}(?:-[A-Za-z0-9._]{1,5})?", fullmatch=True)


@settings(max_examples=50)
@given(st.lists(PART, min_size=1, max_size=2).map("/".join))
def test_law_the_folder_of_a_repository_gives_its_name(name):
    assert repository_name(repository_folder(name)) == name


def test_other_folders_are_no_repositories():
    assert repository_name("datasets--org--name") is None
    assert repository_name("blobs") is None


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"HF_HOME": "/a/home"},
        {"HF_HUB_CACHE": "/a/hub"},
        {"HUGGINGFACE_HUB_CACHE": "/a/old"},
        {"HF_HOME": "/a/home", "HF_HUB_CACHE": "~/hub"},
        {"XDG_CACHE_HOME": "/a/xdg"},
        {"HF_HUB_CACHE": "$WHERE/hub", "WHERE": "/a"},
    ],
)
def test_the_cache_is_where_the_library_has_it(variables):
    code = (
        "from registry.hub_cache import location; ours = location();"
        "from huggingface_hub.constants import HF_HUB_CACHE; print(ours); print(HF_HUB_CACHE)"
    )
    names = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME")
    surroundings = {k: v for k, v in os.environ.items() if k not in names} | variables
    done = subprocess.run(
        [sys.executable, "-c", code], env=surroundings, capture_output=True, text=True, check=True
    )
    ours, theirs = done.stdout.splitlines()
    assert ours == theirs


def test_the_environment_is_read_when_asked(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "a"))
    assert location() == tmp_path / "a"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "b"))
    assert location() == tmp_path / "b"

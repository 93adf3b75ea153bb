"""Everything that is installed has a licence that suits, stands in the table, and is locked by its hash."""

import re
import tomllib
from pathlib import Path

import pytest
from dependencies import OF_TORCH, packages, spelled, table, wrong
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCKS = {name: ROOT / ".ci" / f"{name}.lock" for name in ("requirements", "requirements-dev")}


def locked(name):
    """Name → versions, of a lock whose every entry has hashes."""
    found = {}
    for entry in LOCKS[name].read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        requirement, *hashes = entry.split(" --hash=")
        assert hashes, entry
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}\s*", each) for each in hashes), entry
        parsed = Requirement(requirement)
        assert [s.operator for s in parsed.specifier] == ["=="], entry
        found.setdefault(canonicalize_name(parsed.name), []).append(
            next(iter(parsed.specifier)).version
        )
    return found


def test_every_licence_is_one_that_suits():
    found = {p.name: p.license for p in packages() if wrong(p.license)}
    assert not found
    assert len(packages()) > 60


@pytest.mark.parametrize(
    "text", ["GPL-3.0", "MIT AND AGPL-3.0-only", "(MIT OR GPL-2.0)", "Proprietary", "?", ""]
)
def test_a_licence_that_does_not_suit_is_seen(text):
    assert wrong(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [("Apache License,  Version 2.0", "Apache-2.0"), ("MIT License", "MIT"), ("GPL v3", "GPL v3")],
)
def test_spellings_become_spdx_s_where_they_are_known(text, name):
    assert spelled(text) == name


def test_the_table_is_what_is_installed():
    written = (ROOT / "data" / "dependencies.md").read_text(encoding="utf-8")
    assert written == table(), "make dependencies writes it anew"


def test_everything_but_torch_is_locked():
    dev = locked("requirements-dev")
    installed = {canonicalize_name(package.name) for package in packages()} - {"torch"}
    assert installed <= set(dev)
    assert not [name for name in dev if name == "torch" or OF_TORCH.fullmatch(name)]


def test_the_two_locks_agree_and_the_smaller_has_what_users_need():
    small, dev = locked("requirements"), locked("requirements-dev")
    assert {name: dev.get(name) for name in small} == small
    users = {canonicalize_name(p.name) for p in packages() if p.extra in ("", "score")}
    assert users - {"torch"} <= set(small)


def test_what_is_locked_is_what_pyproject_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    dev = locked("requirements-dev")
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    for asked in (Requirement(line) for lines in lists for line in lines):
        if asked.name not in ("torch", "homolog"):
            versions = dev[canonicalize_name(asked.name)]
            assert all(asked.specifier.contains(version) for version in versions), asked


def test_locks_name_no_place_to_get_packages_from():
    for lock in LOCKS.values():
        text = lock.read_text(encoding="utf-8")
        assert "://" not in text
        assert "index" not in text

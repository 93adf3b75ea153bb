"""Every bad input of `data/hostile.md` ends as it says there, within bounds of time and memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from torture.hostile_list import LIST, cases, stable

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tried(tmp_path_factory):
    """The list made anew, in a process of its own: it may not take more memory than one may have."""
    file = tmp_path_factory.mktemp("list") / "list.json"
    paths = f"{ROOT / 'tests'}:{ROOT}"
    done = subprocess.run(
        [sys.executable, "-m", "torture.hostile_list", "--report", str(file)],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        cwd=file.parent, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(file.read_text())


def test_each_ends_in_the_error_it_should(tried):
    ends = {(t["kind"], t["what"]): (t["code"], t["error"]) for t in tried["told"]}
    assert ends == {(c.kind, c.what): (c.code if c.words else 0, c.error) for c in cases()}


def test_none_ends_without_a_name_or_takes_all_the_time_or_memory(tried):
    assert tried["findings"] == []


def test_the_list_is_not_stale(tried):
    assert stable(LIST.read_text(encoding="utf-8")) == stable(tried["text"]), (
        "PYTHONPATH=tests python -m torture.hostile_list --write"
    )


def test_what_users_see_names_no_place_of_this_machine(tried):
    text = LIST.read_text(encoding="utf-8")
    assert "/tmp/" not in text
    assert str(Path.home()) not in text
    assert len(tried["told"]) > 300

"""Several processes that find no catalog make one, and none loses what another wrote."""

import subprocess
import sys

import pytest

from registry.database import Database

BEGINNERS = """
import os, sys
from pathlib import Path
from registry.database import Database

def begin(path, name):
    with Database(path).write() as transaction:
        transaction.execute("insert into store.setting values (?, 'here')", [name])

for path in map(Path, sys.argv[1:]):
    begun = []
    for i in range(5):
        begun.append(os.fork())
        if not begun[-1]:
            begin(path, str(i))
            os._exit(0)
    for process in begun:
        assert os.waitpid(process, 0)[1] == 0
"""
"""Five processes at once for each path, all of them forked by one that has loaded what they need."""


@pytest.mark.parametrize("empty", [False, True], ids=["no-file", "empty-file"])
def test_processes_that_begin_at_once_make_one_catalog(empty, tmp_path):
    paths = [tmp_path / str(attempt) / "catalog.duckdb" for attempt in range(2)]
    for path in paths:
        path.parent.mkdir()
        if empty:
            path.touch()
    subprocess.run([sys.executable, "-c", BEGINNERS, *map(str, paths)], check=True, timeout=120)
    for path in paths:
        kept = Database(path).rows(
            "select key from store.setting where value = 'here' order by key"
        )
        assert [row["key"] for row in kept] == list("01234")
        assert [file.name for file in path.parent.iterdir()] == ["catalog.duckdb"]

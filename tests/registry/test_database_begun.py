"""Several processes that find no catalog make one, and none loses what another wrote."""

import subprocess
import sys

import pytest

from registry.database import Database

BEGINNER = """
import sys
from pathlib import Path
from registry.database import Database
with Database(Path(sys.argv[1])).write() as transaction:
    transaction.execute("insert into store.setting values (?, 'here')", [sys.argv[2]])
"""


@pytest.mark.parametrize("empty", [False, True], ids=["no-file", "empty-file"])
def test_processes_that_begin_at_once_make_one_catalog(empty, tmp_path):
    for attempt in range(4):
        path = tmp_path / str(attempt) / "catalog.duckdb"
        path.parent.mkdir()
        if empty:
            path.touch()
        command = [sys.executable, "-c", BEGINNER, str(path)]
        begun = [subprocess.Popen([*command, str(i)]) for i in range(5)]
        assert [each.wait(timeout=60) for each in begun] == [0] * 5
        kept = Database(path).rows(
            "select key from store.setting where value = 'here' order by key"
        )
        assert [row["key"] for row in kept] == list("01234")
        assert [file.name for file in path.parent.iterdir()] == ["catalog.duckdb"]

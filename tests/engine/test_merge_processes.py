"""Merges of other processes: killed in the middle, or racing for one folder."""

import signal

import pytest
from forked import forks

from engine.merge import merge
from engine.verify import verify
from registry.scan import scan


@pytest.fixture(scope="module")
def processes():
    with forks() as parent:
        yield parent


def files(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def runs(catalog):
    return catalog.rows("select * from store.run order by started_at, id")


SCRIPT = """
import os, signal, sys
from pathlib import Path
from engine.merge import merge
from engine.recipe import Part, Recipe
from registry.catalog import Catalog
from registry.errors import RegError

class Progress:
    def start(self, what, total_bytes): self.what = what
    def advance(self, n_bytes):
        if self.what == "merge" and {kill}:
            os.kill(os.getpid(), signal.SIGKILL)

recipe = Recipe("ties", (Part("chat"), Part("math")))
catalog, output, answer = map(Path, sys.argv[1:])
try:
    said = merge(Catalog(catalog), recipe, output, progress=Progress()).model
except RegError as error:
    said = error.kind
answer.write_text(said)
"""


def test_a_killed_run_leaves_a_hidden_folder_that_stands_in_nobodys_way(
    shelf, recipe_of, processes, tmp_path
):
    models = tmp_path / "models"
    models.mkdir()
    command = (SCRIPT.format(kill=True), shelf.path, models / "out", tmp_path / "answer")
    assert processes.run(command) == [-signal.SIGKILL]
    (left,) = models.iterdir()
    assert left.name.startswith(".out.")
    assert left.name.endswith(".partial")
    (row,) = runs(shelf)
    assert row["status"] == "STARTED"
    assert not scan(shelf, [str(models)]).models
    merged = merge(shelf, recipe_of("slerp", "chat", "math"), models / "other")
    assert verify(shelf, str(merged.folder)).ok
    assert sorted(row["status"] for row in runs(shelf)) == ["COMPLETE", "STARTED"]
    merged = merge(shelf, recipe_of("ties", "chat", "math"), models / "out")
    assert verify(shelf, str(merged.folder)).ok
    killed, *others = runs(shelf)
    assert [killed["status"], *(row["status"] for row in others)] == [
        "ABORTED", "COMPLETE", "COMPLETE",
    ]  # fmt: skip
    assert killed["error"] == f"the process ended; run {merged.run[:12]} went on"
    assert killed["ended_at"] >= killed["started_at"]
    assert sorted(p.name for p in models.iterdir()) == ["other", "out"]


# Kills itself where only luck would hit it: in the middle of what comes before and after the tensors.
MOMENT = """
import os, signal, sys
from pathlib import Path
import engine.journal, engine.merge, engine.provenance
from engine.recipe import Part, Recipe
from registry.catalog import Catalog

def die(*arguments, **named):
    os.kill(os.getpid(), signal.SIGKILL)

owner, name = {moment!r}.rsplit(".", 1)
setattr(sys.modules[owner], name, die)
recipe = Recipe("ties", (Part("chat"), Part("math")))
engine.merge.merge(Catalog(Path(sys.argv[1])), recipe, Path(sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("moment", "statuses"),
    [
        ("engine.journal.Journal", ["COMPLETE"]),
        ("engine.merge.record_start", ["COMPLETE"]),
        ("engine.merge._describe", ["ABORTED", "COMPLETE"]),
        ("engine.journal.take_name", ["ABORTED", "COMPLETE"]),
        ("engine.merge.scan", ["COMPLETE"]),
        ("engine.merge.record_complete", ["COMPLETE"]),
    ],
)
def test_a_kill_at_any_step_leaves_what_the_same_merge_goes_on_with(
    *, moment, statuses, shelf, recipe_of, processes, tmp_path
):
    recipe = recipe_of("ties", "chat", "math")
    expected = merge(shelf, recipe, tmp_path / "expected" / "out")
    script = MOMENT.format(moment=moment)
    command = (script, shelf.path, tmp_path / "models" / "out")
    assert processes.run(command) == [-signal.SIGKILL]
    merged = merge(shelf, recipe, tmp_path / "models" / "out")
    assert files(merged.folder) == files(expected.folder)
    assert sorted(row["status"] for row in runs(shelf)) == sorted(["COMPLETE", *statuses])
    assert [p.name for p in (tmp_path / "models").iterdir()] == ["out"]


def test_of_two_merges_into_one_folder_one_wins(shelf, processes, tmp_path):
    script, answers = SCRIPT.format(kill=False), [tmp_path / "one", tmp_path / "two"]
    assert processes.run(*((script, shelf.path, tmp_path / "out", a) for a in answers)) == [0, 0]
    said = sorted(answer.read_text() for answer in answers)
    assert said[1] == "OutputExists"
    assert verify(shelf, str(tmp_path / "out")).model == said[0]
    assert [p.name for p in tmp_path.iterdir() if "out" in p.name] == ["out"]

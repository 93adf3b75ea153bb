"""A disk that fills while a merge writes: a clear error, what is finished stays, and the same merge goes on later."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from engine.merge import merge
from engine.options import Options
from engine.recipe import Part, Recipe
from registry.catalog import Catalog

# A file system without reservation, on which somebody else takes all the room after some units.
SCRIPT = """
import errno, json, os, subprocess, sys
from pathlib import Path
from engine.merge import merge
from engine.options import Options
from engine.recipe import Part, Recipe
from registry.catalog import Catalog
from registry.errors import NotEnoughDisk

kind, folder = sys.argv[1], Path(sys.argv[2])
disk, real = folder / "disk", os.pwrite
if kind == "tmpfs":
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], check=True)

def unsupported(handle, offset, length):
    raise OSError(errno.EOPNOTSUPP, "not supported")

def full(handle, data, offset):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

class Fills:
    left = 9
    def start(self, what, total_bytes): self.what = what
    def advance(self, n_bytes):
        self.left -= self.what == "merge"
        if not self.left:
            fill()

def fill():
    if kind != "tmpfs":
        os.pwrite = full
        return
    with open(disk / "others", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass

def free():
    os.pwrite = real
    (disk / "others").unlink(missing_ok=True)

def attempt(**options):
    recipe = Recipe("linear", tuple(Part(str(folder / name)) for name in ("one", "two")))
    settings = Options(jobs=1, allow_unrelated=True, **options)
    catalog = Catalog(folder / "catalog.duckdb")
    try:
        return list(merge(catalog, recipe, disk / "out", options=settings, progress=Fills()).notes)
    except NotEnoughDisk as error:
        return [error.message, error.hint]

os.posix_fallocate = unsupported
said = [attempt()]
said.append(sorted(path.name[:5] for path in disk.iterdir() if path.is_dir()))
attempt()  # nothing has changed
free()
Fills.left = 10**9
said.append(attempt(resume=True))
said.append([path.name for path in disk.iterdir()])
files = {path.name: path.read_bytes().hex() for path in (disk / "out").iterdir()}
rows = Catalog(folder / "catalog.duckdb").rows("select status from store.run order by started_at")
print(json.dumps([said, files, [row["status"] for row in rows]]))
"""


def may_mount():
    """Whether the system lets us mount a small disk of our own."""
    try:
        words = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.fixture
def two(tmp_path):
    for seed, name in enumerate(("one", "two")):
        generator = torch.Generator().manual_seed(seed)
        (tmp_path / name).mkdir()
        tensors = {f"t{i:02}.weight": torch.randn(128, 256, generator=generator) for i in range(16)}
        save_file(tensors, tmp_path / name / "model.safetensors")
    (tmp_path / "disk").mkdir()
    return tmp_path


@pytest.mark.parametrize("kind", ["tmpfs", "pretended"])
def test_a_disk_that_fills_in_the_middle_leaves_a_run_to_resume(kind, two):
    real = kind == "tmpfs" and may_mount()  # else both times the disk is a pretended one
    words = [sys.executable, "-c", SCRIPT, "tmpfs" if real else "pretended", str(two)]
    done = subprocess.run(
        [*(["unshare", "-rm"] if real else []), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (failed, left, notes, there), files, statuses = json.loads(done.stdout)
    message, hint = failed
    assert "cannot write" in message
    assert "no space" in message.lower()
    assert hint == "free some space and type the same command again: it goes on from there"
    assert ".out." in left
    assert any(note.endswith("were finished by a run that had been stopped") for note in notes)
    assert there == ["out"]
    assert statuses[-1] == "COMPLETE"
    assert set(statuses[:-1]) == {"FAILED"}
    recipe = Recipe("linear", tuple(Part(str(two / name)) for name in ("one", "two")))
    catalog = Catalog(two / "catalog.duckdb")
    whole = merge(catalog, recipe, two / "whole", options=Options(allow_unrelated=True)).folder
    assert files == {path.name: path.read_bytes().hex() for path in whole.iterdir()}

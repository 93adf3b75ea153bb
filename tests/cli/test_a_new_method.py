"""A method that somebody adds is one file; everything else finds it."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

FILE = '''
"""The elementwise middle of two models, nudged."""

import torch

from engine.method import Scale, Tensors, merge_method


@merge_method(space="weight", scope="element", paper="0000.00000", n_models=(2, 2))
def nudged_middle(models: Tensors, *, nudge: Scale = 0.25) -> torch.Tensor:
    """The middle of two models plus a constant.

    Args:
        models: two, (*shape) float32 each.
        nudge: added to every entry, unit of the weights.

    Returns:
        (*shape) float32.
    """
    return (models[0] + models[1]).div_(2).add_(nudge)
'''

PROGRAM = """
import contextlib, io, json, sys
import engine.methods
engine.methods.__path__.append({folder!r})
from cli.main import run
said = []
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert run(words) == 0, words
    said.append(out.getvalue())
print(json.dumps(said))
"""


@pytest.fixture
def reg(tmp_path, place):
    """Run commands of `reg`, one after the other in one process, with one more file among its methods."""
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "nudged_middle.py").write_text(FILE)

    def run(*commands):
        program = PROGRAM.format(folder=str(folder))
        command = [sys.executable, "-c", program, json.dumps(commands)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=place.folder
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def tensors_in(folder):
    """All tensors of a folder."""
    files = sorted(folder.glob("*.safetensors"))
    return {name: t.float() for file in files for name, t in load_file(file).items()}


def test_a_method_is_one_file(reg, place):
    settings = ("--method", "nudged_middle", "--set", "nudge=1", "--dtype", "float32")
    names, explained, *_ = reg(
        ("methods", "-q"),
        ("methods", "nudged_middle"),
        ("scan", "models"),
        ("merge", *settings, "chat", "math", "-o", "out"),
        ("reproduce", "out", "-o", "again"),
    )
    assert "nudged_middle" in names.split()
    assert "nudge" in explained
    assert "0000.00000" in explained
    left, right = (tensors_in(place.folder / "models" / name) for name in ("chat", "math"))
    found = tensors_in(place.folder / "out")
    for name, tensor in found.items():
        assert torch.equal(tensor, (left[name] + right[name]) / 2 + 1)

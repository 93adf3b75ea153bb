"""A method that somebody adds is one file; everything else finds it."""

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
import sys
import engine.methods
engine.methods.__path__.append({folder!r})
from cli.main import main
sys.exit(main())
"""


@pytest.fixture
def reg(tmp_path, place):
    """Run `reg` with one more file among its methods."""
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "nudged_middle.py").write_text(FILE)

    def run(*words):
        program = PROGRAM.format(folder=str(folder))
        command = [sys.executable, "-c", program, *words]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=place.folder
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def tensors_in(folder):
    """All tensors of a folder."""
    files = sorted(folder.glob("*.safetensors"))
    return {name: t.float() for file in files for name, t in load_file(file).items()}


def test_a_method_is_one_file(reg, place):
    assert "nudged_middle" in reg("methods", "-q").split()
    explained = reg("methods", "nudged_middle")
    assert "nudge" in explained
    assert "0000.00000" in explained
    reg("scan", "models")
    settings = ("--method", "nudged_middle", "--set", "nudge=1", "--dtype", "float32")
    reg("merge", *settings, "chat", "math", "-o", "out")
    left, right = (tensors_in(place.folder / "models" / name) for name in ("chat", "math"))
    found = tensors_in(place.folder / "out")
    for name, tensor in found.items():
        assert torch.equal(tensor, (left[name] + right[name]) / 2 + 1)
    reg("reproduce", "out", "-o", "again")

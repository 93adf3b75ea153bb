"""A mergekit of its own: the real package in a separate environment, and every recipe run by it once."""

import os
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest
import torch
from against_mergekit import recipes
from safetensors.torch import load_file

VERSION = "mergekit==0.1.5"
HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def mergekit_outputs(tmp_path_factory):
    """Recipe name → folder of mergekit's output, made by one process for all test processes together."""
    shared = tmp_path_factory.getbasetemp().parent / "mergekit"
    try:
        shared.mkdir()
    except FileExistsError:
        wait_for(shared / "done")
        return shared
    python = environment(shared / "environment")
    recipes.write(shared)
    subprocess.run(
        [python, HERE / "run_recipes.py", shared],
        check=True, capture_output=True, env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    return shared


def environment(folder: Path) -> Path:
    """An environment with mergekit that shares torch and transformers with ours; returns its Python."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    place = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    ours = next(p for p in sys.path if p.endswith("site-packages"))
    Path(place, "ours.pth").write_text(ours + "\n", encoding="utf-8")
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", VERSION],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return python


def wait_for(file: Path) -> None:
    """Wait until another test process has written ``file``."""
    deadline = time.monotonic() + 900
    while not file.exists():
        assert time.monotonic() < deadline, "mergekit did not finish"
        time.sleep(0.5)


@pytest.fixture
def theirs(mergekit_outputs):
    """The tensors that mergekit made of a recipe."""

    def read(name: str) -> dict[str, torch.Tensor]:
        error = mergekit_outputs / f"{name}.error"
        assert not error.exists(), error.read_text()[-2000:]
        found: dict[str, torch.Tensor] = {}
        for file in sorted((mergekit_outputs / name).glob("*.safetensors")):
            found |= load_file(file)
        return found

    return read

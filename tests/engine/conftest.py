"""What the engine's tests share: parents and plans made by hand, without a catalog, and the family's catalog."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.parent import Parent
from engine.pin import pin
from engine.planner import make_plan
from engine.recipe import Part, Recipe
from registry.catalog import Catalog
from registry.checkpoint import read_checkpoint
from registry.fingerprint import digest_model, digest_tensors
from registry.scan import scan


@pytest.fixture
def make_parent(tmp_path):
    """Write tensors as a checkpoint and read it back as a parent; ``config`` None: a bare file's folder."""

    def make(name, tensors, *, config=None, shards=1):
        folder = tmp_path / "parents" / name
        folder.mkdir(parents=True)
        names = sorted(tensors)
        for i in range(shards):
            part = {n: tensors[n].contiguous() for n in names[i::shards]}
            save_file(part, folder / f"model-{i + 1:05}-of-{shards:05}.safetensors")
        (folder / "config.json").write_text(json.dumps(config or {}), encoding="utf-8")
        return parent_at(folder)

    return make


def parent_at(folder):
    """The parent whose files are in a folder."""
    checkpoint = read_checkpoint(folder)
    digests = digest_tensors(checkpoint.tensors, jobs=1)
    model = digest_model(digests, tied=checkpoint.tied)
    return Parent(model, folder.name, checkpoint, digests)


@pytest.fixture(name="parent_at", scope="session")
def _parent_at():
    return parent_at


@pytest.fixture
def planned():
    """Plan a merge of parents: ``planned("linear", [a, b], weight=[0.5, 0.5])``."""

    def plan(method, models, *, base=None, dtype=None, seed=0, **parameters):
        shared, parts = {}, [{} for _ in models]
        for name, value in parameters.items():
            if isinstance(value, list):
                for part, own in zip(parts, value, strict=True):
                    part[name.rstrip("_")] = own
            else:
                shared[name.rstrip("_")] = value
        recipe = Recipe(
            method,
            tuple(Part(m.name, part) for m, part in zip(models, parts, strict=True)),
            parameters=shared,
            out_dtype=dtype,
            seed=seed,
        )
        base_id = None if base is None else base.id
        pinned = pin(recipe, base_id, [m.id for m in models])
        return make_plan(pinned, base if pinned.base else None, models)

    return plan


@pytest.fixture
def tensors_in():
    """Read all tensors of a folder with the reference library."""

    def read(folder: Path) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = {}
        for file in sorted(folder.glob("*.safetensors")):
            found |= load_file(file)
        return found

    return read


@pytest.fixture(scope="session")
def _scanned(family, tmp_path_factory):
    """A catalog that knows base, chat, math, cpt and stranger."""
    catalog = Catalog(tmp_path_factory.mktemp("scanned") / "catalog.duckdb")
    folders = (family.base, family.chat, family.math, family.cpt, family.stranger)
    scan(catalog, [str(folder) for folder in folders], jobs=1)
    return catalog.path


@pytest.fixture
def shelf(_scanned, tmp_path):
    """A catalog of one's own that knows base, chat, math, cpt and stranger of the family."""
    path = tmp_path / "shelf" / "catalog.duckdb"
    path.parent.mkdir()
    shutil.copy(_scanned, path)
    return Catalog(path, wait_seconds=10.0)


@pytest.fixture
def recipe_of():
    """A recipe by keywords: ``recipe_of("ties", "chat", "math", density=0.5)``."""

    def make(method, *models, base=None, dtype=None, seed=0, **parameters):
        parts = tuple(Part(str(model)) for model in models)
        shared = {name.rstrip("_"): value for name, value in parameters.items()}
        return Recipe(method, parts, base and str(base), shared, dtype, seed)

    return make

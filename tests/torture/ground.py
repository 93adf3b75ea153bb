"""Where inputs are tried: a folder with a small family of models, and a catalog that knows them.

Made once, then only read: each input gets a folder of its own and, where it wants one, a copy of the catalog.
"""

import os
import shutil
from pathlib import Path

import torch
from conftest import moved, save_adapter, save_model, weights
from ggufs import save_gguf

import homolog
from engine.recipe_file import recipe_from_text
from registry.catalog import Catalog

RECIPE = """
merge_method: linear
base_model: base
models: [{model: chat, parameters: {weight: 0.5}}, {model: math, parameters: {weight: 0.5}}]
dtype: bfloat16
"""

CARD = "license: apache-2.0\nbase_model: base\nbase_model_relation: finetune\ntags: [merge, chat]\nlanguage: [en]"


class Ground:
    """The family below ``models``, and what each input may change below ``try``.

    Attributes:
        models: base, chat, math, sharded, adapter, merged and quantised.gguf.
        folder: empty before every input; commands run in there.
    """

    def __init__(self, root: Path) -> None:
        self.models = root / "models"
        self.folder = root / "try"
        self._known = root / "known.duckdb"
        self._empty = root / "empty.duckdb"
        if not self._known.exists():
            self._make()

    def _make(self) -> None:
        """Make the family and index it."""
        base = {name: t.to(torch.bfloat16) for name, t in weights(1).items()}
        save_model(self.models / "base", base, card="license: apache-2.0")
        save_model(self.models / "chat", moved(base, 2, 0.001), card=CARD)
        save_model(self.models / "math", moved(base, 3, 0.002), card=CARD, config={"_name_or_path": "base"})  # fmt: skip
        save_model(self.models / "sharded", moved(base, 4, 0.002), card=CARD, shards=3)
        save_adapter(self.models / "adapter", "base")
        save_gguf(self.models / "quantised.gguf", n_tokens=20)
        catalog = Catalog(self._empty)
        with catalog.write():
            pass
        catalog.database.let_go()
        making = self._known.with_suffix(".making")
        shutil.copy(self._empty, making)
        catalog = Catalog(making)
        homolog.scan(catalog, [str(self.models)])
        homolog.merge(catalog, recipe_from_text(RECIPE), self.models / "merged")
        homolog.scan(catalog, [str(self.models)])
        for child, base in homolog.pairs(catalog, None):
            homolog.stats(catalog, child, base, jobs=1)
        catalog.database.let_go()
        making.rename(self._known)

    def clear(self) -> Path:
        """The folder for the next input, empty, and the current one."""
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder.mkdir()
        os.chdir(self.folder)
        return self.folder

    def catalog(self, *, known: bool = True) -> Path:
        """A copy of the catalog that knows the family, or of one that knows nothing."""
        path = self.folder / ".reg" / "catalog.duckdb"
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(self._known if known else self._empty, path)
        return path

    def copy(self, name: str, to: str = "") -> Path:
        """A copy of one model."""
        target = self.folder / (to or name)
        if (self.models / name).is_dir():
            shutil.copytree(self.models / name, target)
        else:
            shutil.copyfile(self.models / name, target)
        return target

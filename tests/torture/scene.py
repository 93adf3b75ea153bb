"""What is done to a catalog, small: the models, the catalog before, and the words of the command."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import torch
from conftest import moved, save_adapter, save_model, weights
from hub.server import LocalHub
from scanned import tiny, with_card
from torture.warm import Process, Warm, warm

from registry.resources import migrations

CATALOG = "catalog.duckdb"
_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 2 << 30
N_MANY, N_REPOSITORIES, N_LISTED = 20, 8, 900


@dataclass(frozen=True)
class Scene:
    """One command, and what it finds.

    Attributes:
        words: after `reg`.
        before: folder that is copied to where the command runs.
        has_hub: it asks or changes the Hub, which is as new before each run.
        resume: words that are added when a run of them can be gone on with.
    """

    words: tuple[str, ...]
    before: Path
    has_hub: bool = False
    resume: tuple[str, ...] = ()


class Stage:
    """A folder with models, a Hub, and one place where one command after the other is played.

    Attributes:
        models: folder of all models, which nobody writes into.
        place: where commands run; made anew for each.
        hub: the Hub as it is now.
        warm: starts processes.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.models, self.place, self._folder = folder / "models", folder / "place", folder
        make_models(self.models)
        self._n_hubs = 0
        self.hub = LocalHub(folder / "hub0").__enter__()
        stack.callback(self.close)
        environment = {
            "HF_ENDPOINT": self.hub.endpoint, "HF_TOKEN": self.hub.token, "HF_HUB_DISABLE_XET": "1",
            "XDG_CACHE_HOME": str(Path.home() / ".cache"),
        }  # fmt: skip
        self.warm: Warm = stack.enter_context(warm(folder / "warm", environment))
        self.new_hub()

    def close(self) -> None:
        """Close the Hub that there is now."""
        self.hub.close()

    @property
    def catalog(self) -> Path:
        """The catalog of the command that is played."""
        return self.place / CATALOG

    def set(self, scene: Scene) -> None:
        """Let all be as it was before a scene."""
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.copytree(scene.before, self.place)
        if scene.has_hub:
            self.new_hub()

    def start(self, *words: str) -> Process:
        """Run `reg` where the command of the scene runs."""
        return self.warm.start(["--catalog", str(self.catalog), *words], self.place)

    def run(self, *words: str) -> Process:
        """The same, to its end."""
        return self.warm.run(["--catalog", str(self.catalog), *words], self.place)

    def new_hub(self) -> None:
        """A Hub that has never been asked, in the place of the one before."""
        self.hub.close()
        self._n_hubs += 1
        port = int(self.hub.endpoint.rpartition(":")[2])
        self.hub = LocalHub(self._folder / f"hub{self._n_hubs}", port=port).__enter__()
        shutil.rmtree(self._folder / f"hub{self._n_hubs - 1}", ignore_errors=True)
        for i in range(N_REPOSITORIES):
            self.hub.add(f"lab/m{i:02}", self.models / "many" / f"m{i:02}", link=True)

    def before(self, name: str, *commands: Sequence[str], start: Path | None = None) -> Path:
        """A folder with the catalog that some commands leave, made once; ``start``: what they find."""
        made = self._folder / "before" / name
        if not made.exists():
            shutil.rmtree(self.place, ignore_errors=True)
            if start is None:
                self.place.mkdir()
            else:
                shutil.copytree(start, self.place)
            for words in commands:
                process = self.run(*words)
                assert process.code == 0, process.said
            shutil.copytree(self.place, made)
        return made


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """Make a stage in an empty folder or, where there is one, in a folder of memory: a kill takes nothing that was written.

    What a power loss takes is another question (`tests/engine/test_order.py`).
    """
    is_there = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES
    with ExitStack() as stack:
        made = TemporaryDirectory(prefix="homolog-torture-", dir=_MEMORY if is_there else folder)
        yield Stage(Path(stack.enter_context(made)), stack)


def make_models(models: Path) -> None:
    """A family, an adapter and a merge's parents, and many small ones, of which some are damaged."""
    original = weights(1)
    base = {name: tensor.to(torch.bfloat16) for name, tensor in original.items()}
    says = "license: apache-2.0\nbase_model: base\nbase_model_relation: finetune"
    save_model(models / "family" / "original", original, config={"torch_dtype": "float32"})
    save_model(models / "family" / "base", base, card="license: apache-2.0")
    for i, name in enumerate(("chat", "math", "cpt"), 2):
        save_model(models / "family" / name, moved(base, i, 0.001 * i), card=says)
    save_adapter(models / "family" / "adapter", "base")
    for i in range(N_MANY):
        made = tiny(models / "many" / f"m{i:02}", i / 8)
        if i % 3:
            with_card(made, f"license: mit\nbase_model: lab/m{i // 3:02}")
        if i % 10 == 9:
            (made / "model.safetensors").write_bytes(b"\xff" * 64)


def scenes(on: Stage) -> dict[str, list[Callable[[], Scene]]]:
    """All kinds of scenes, and those of each, made when they are asked for."""
    family, many, empty = str(on.models / "family"), str(on.models / "many"), on.before("empty")

    def of_family(words: str, **how: Any) -> Callable[[], Scene]:
        return lambda: Scene(tuple(words.split()), on.before("family", ["scan", family]), **how)

    three = [f"{family}/{name}" for name in ("original", "base", "chat")]
    merge = "merge --method ties --shard-size 8KB -o made/out chat math cpt"
    extract = "extract chat --base base --rank 2 -o made/lora"
    versions = [version for version, _ in migrations()[:-1]]
    return {
        "scan: a new catalog": [lambda: Scene(("scan", many, family), empty)],
        "scan: a tree that changed": [lambda: _rescan(on)],
        "scan --sketch": [lambda: Scene(("scan", "--sketch", *three), empty)],
        "scan of the Hub": [lambda: Scene(("scan", "hf://lab/*"), empty, has_hub=True)],
        "stats": [of_family("stats chat math")],
        "infer": [of_family("infer")],
        "merge, and merge --resume": [of_family(merge, resume=("--resume",))],
        "extract": [of_family(extract)],
        "push": [of_family("push chat me/chat", has_hub=True)],
        "import": [lambda: _import(on)],
        "migration of an older catalog": [partial(old, on, version) for version in versions[::-1]],
    }


def _rescan(on: Stage) -> Scene:
    """A tree of which some models changed, some are gone and some are new since it was scanned."""
    tree = on.models / "tree"
    if not tree.exists():
        shutil.copytree(on.models / "many", tree)
        before = on.before("tree", ["scan", str(tree)])
        for i in range(0, N_MANY, 4):
            tiny(tree / f"m{i:02}", i + 0.5)
            shutil.rmtree(tree / f"m{i + 1:02}")
            tiny(tree / f"n{i:02}", i + 0.25)
    before = on.before("tree")
    return Scene(("scan", str(tree)), before)


def _import(on: Stage) -> Scene:
    """A listing, over an older one that says something else."""
    old, new = on.models / "old.jsonl", on.models / "new.jsonl"
    for file, first in ((old, 0), (new, N_LISTED // 3)):
        rows = (
            {
                "id": f"lab/l{i}",
                "base_model": f"lab/l{i // 2}" if i else None,
                "likes": i % 7 + first,
            }
            for i in range(first, N_LISTED)
        )
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = on.before("listed", ["import", str(old)])
    return Scene(("import", str(new)), before)


def old(on: Stage, version: int) -> Scene:
    """A catalog that an older version left, with all rows of the family that its tables can hold."""
    today = on.before("family", ["scan", str(on.models / "family")])
    made = on.before(f"version {version}")
    if not (made / CATALOG).exists():
        old_catalog(made / CATALOG, version, today / CATALOG)
    return Scene(("ls",), made)


def old_catalog(path: Path, version: int, today: Path) -> None:
    """Write a catalog of an older version, with the rows of today's that fit into it."""
    with duckdb.connect(str(path)) as connection:
        for number, file in migrations():
            if number <= version:
                connection.execute(file.read_text(encoding="utf-8"))
                connection.execute(
                    "insert into store.migration values (?, ?, now())", [number, file.stem]
                )
        connection.execute(f"attach '{today}' as today (read_only)")
        tables = connection.execute(
            "select table_name from duckdb_tables() where database_name = 'today' and schema_name = 'store'"
        ).fetchall()
        mine = f"'{connection.execute('select current_database()').fetchone()[0]}'"
        for (table,) in tables:
            shared = connection.execute(
                "select list(column_name) from (select column_name from duckdb_columns() where schema_name = 'store' "
                f"and table_name = ? and database_name in ({mine}, 'today') group by 1 having count(*) = 2)",
                [table],
            ).fetchone()
            if shared and shared[0] and table not in ("migration", "setting", "histogram"):
                columns = ", ".join(shared[0])
                connection.execute(
                    f"insert into store.{table} ({columns}) select {columns} from today.store.{table}"
                )

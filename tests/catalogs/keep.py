"""Keeps a catalog as the code of today, or of another checkout, writes it: `python tests/catalogs/keep.py`.

The models of `data/zoo` are scanned, measured, inferred, merged and scored with the real command line, each command in a
process of its own. What comes out goes to `data/catalogs/NNNN.duckdb.xz`, NNNN being the version of its schema, with
counts and a few values beside it. Run it when a migration is about to arrive: afterwards nobody can make the old file.
"""

import argparse
import json
import lzma
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb

sys.path.insert(0, str(Path(__file__).parents[1]))

from hub.server import LocalHub

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "data" / "catalogs"
MODELS = ("base", "arithmetic", "reverse", "upper-lora")
PLACE = Path(tempfile.gettempdir()) / "homolog-kept"
"""Where the models lie while they are scanned: the same for everybody, so that no machine's paths are kept."""

LISTING = """{"id": "lab/chat", "base_model": "lab/tiny", "downloads": 90, "license": "mit"}
{"id": "lab/both", "base_model": ["lab/chat", "homolog-zoo/base"], "downloads": 5}
{"id": "homolog-zoo/arithmetic", "base_model": "homolog-zoo/base"}
{"no": "name"}
"""
STORY = (
    "scan models",
    "stats arithmetic reverse --base base",
    "stats arithmetic --base base --spectral",
    "infer --scalars 1024",
    "merge --method task_arithmetic --weight arithmetic=0.6 --weight reverse=0.6 arithmetic reverse -o merged",
    "score add arithmetic --task gsm8k --metric exact_match --value 0.25",
    "alias set prod arithmetic --why kept",
    "alias set prod reverse --move",
    "import hub.jsonl",
    "scan hf://homolog-zoo/sort",
)
"""What is typed; commands that a checkout does not know are left out."""


def typed(checkout, folder, words, environment):
    """Run one command of a checkout in a folder; anything but 0 ends all."""
    command = [sys.executable, "-m", "cli", *words]
    subprocess.run(command, cwd=folder, env=environment | {"PYTHONPATH": str(checkout)}, check=True)


def make(checkout, folder, story=STORY):
    """Tell the story in a folder with the code of a checkout; return the catalog's file."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / ".reg").mkdir(parents=True)
    for name in MODELS:
        shutil.copytree(ROOT / "data" / "zoo" / name, folder / "models" / name)
    (folder / "models" / "torn").mkdir()
    (folder / "models" / "torn" / "model.safetensors").write_bytes(b"\x10\0\0\0")
    (folder / "hub.jsonl").write_text(LISTING)
    commands = {file.stem.rstrip("_") for file in (checkout / "cli" / "commands").glob("*.py")}
    knows_hub = (checkout / "registry" / "hub_scan.py").exists()
    with tempfile.TemporaryDirectory() as objects, LocalHub(Path(objects)) as hub:
        hub.add("homolog-zoo/sort", ROOT / "data" / "zoo" / "sort")
        places = {"HF_HOME": str(folder / "hf"), "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": hub.token}
        environment = {k: v for k, v in os.environ.items() if k != "REG_CATALOG"} | places
        environment |= {"LOGNAME": "somebody"}
        for line in story:
            words = line.split()
            if words[0] in commands and ("hf://" not in line or knows_hub):
                typed(checkout, folder, words, environment)
    return folder / ".reg" / "catalog.duckdb"


def facts(file):
    """What is written beside a kept catalog: its version, how many rows each table has, and a few values."""
    with duckdb.connect(str(file), read_only=True) as connection:

        def rows(sql):
            return [list(row) for row in connection.execute(sql).fetchall()]

        tables = [row[0] for row in rows("select table_name from duckdb_tables() order by 1")]
        return {
            "version": rows("select max(version) from store.migration")[0][0],
            "duckdb": duckdb.__version__,
            "counts": {t: rows(f"select count(*) from store.{t}")[0][0] for t in tables},
            "models": rows(
                "select a.name, m.id, m.status, m.n_params from store.address a join store.model m "
                "on m.id = a.model_id order by all"
            ),
            "edges": rows("select child, parent, relation, role, status from store.edge order by all"),
            "runs": rows("select id, status, model_id from store.run order by all"),
            "scores": rows("select task, metric, value, origin from store.score order by all"),
        }  # fmt: skip


def keep(file, folder=KEPT):
    """Compress a catalog into a folder, with its facts; return where it is."""
    told = facts(file)
    name = f"{told['version']:04d}"
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{name}.duckdb.xz"
    kept.write_bytes(lzma.compress(file.read_bytes(), preset=9 | lzma.PRESET_EXTREME))
    (folder / f"{name}.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return kept


def unpacked(version, file):
    """Unpack the kept catalog of a version to a file; return the file."""
    file.write_bytes(lzma.decompress((KEPT / f"{version:04d}.duckdb.xz").read_bytes()))
    return file


def main():
    """Make and keep one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--checkout", type=Path, default=ROOT, help="whose code writes it; default: this one"
    )
    parser.add_argument("--into", type=Path, default=KEPT, help="folder; default: data/catalogs")
    chosen = parser.parse_args()
    kept = keep(make(chosen.checkout.absolute(), PLACE), chosen.into)
    shutil.rmtree(PLACE)
    print(f"{kept}: {kept.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

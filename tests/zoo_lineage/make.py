"""Make a split of the lineage zoo: families of small models whose descent is known, with nothing on disk that tells it.

    python tests/zoo_lineage/make.py --out FOLDER --split dev|practice|sealed [--only llama-tree,mlp-fan] [--claims] [--jobs 2]

Writes FOLDER/SPLIT/models/NAME/ and FOLDER/SPLIT/truth.json. The same machine and versions give the same bytes, whatever
the number of jobs; a job is one process with one thread that raises one family. ``--claims`` adds model cards that name
a base model, one in five of them falsely.
"""

import argparse
import json
import multiprocessing
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from zoo_lineage.family import Pace, raise_family
from zoo_lineage.plan import Family
from zoo_lineage.splits import SPLITS, families
from zoo_lineage.storage import save, set_times, write_card
from zoo_lineage.truth import Facts, claims, facts, folder_name


def make(
    out: Path,
    split: str,
    chosen: Sequence[Family],
    *,
    jobs: int = 1,
    cards: bool = False,
    pace: Pace | None = None,
) -> Facts:
    """Raise the chosen families of a split, write them below ``out``, and return the truth."""
    root = out / split
    if root.exists():
        shutil.rmtree(root)
    tasks = [(root / "models", split, family, pace) for family in chosen]
    if jobs == 1:
        parts = [_one(*task) for task in tasks]
    else:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
            parts = list(pool.map(_one, *zip(*tasks, strict=True)))
    truth: Facts = {"format": 1, "split": split}
    for part in ("nodes", "edges"):
        truth[part] = sorted((f for p in parts for f in p[part]), key=json.dumps)
    truth["claims"] = claims(truth, split) if cards else []
    for claim in truth["claims"]:
        write_card(root / "models" / claim["child"], claim["base_model"])
    (root / "truth.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    set_times(root)
    return truth


def _one(models: Path, split: str, family: Family, pace: Pace | None) -> Facts:
    """Raise and write one family."""
    start = time.monotonic()
    made = raise_family(family, pace)
    for key, model in made.items():
        if not (family.missing and key == "base"):
            save(models / folder_name(split, family, key), model)
    print(f"{family.name}: {len(made)} models, {time.monotonic() - start:.0f} s", flush=True)
    return facts(split, family, made)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make what is asked for."""
    parser = argparse.ArgumentParser(description="Make a split of the lineage zoo.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", choices=SPLITS, required=True)
    parser.add_argument("--only", default="", help="families, with commas between them")
    parser.add_argument("--claims", action="store_true", help="write model cards")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args(arguments)
    known = families(options.split)
    wanted = [name for name in options.only.split(",") if name]
    if unknown := sorted(set(wanted) - {family.name for family in known}):
        parser.error(
            f"no family {', '.join(unknown)}; there are {', '.join(f.name for f in known)}"
        )
    chosen = [family for family in known if not wanted or family.name in wanted]
    truth = make(options.out, options.split, chosen, jobs=options.jobs, cards=options.claims)
    there = sum(not node["latent"] for node in truth["nodes"])
    print(f"{there} models, {len(truth['edges'])} edges: {options.out / options.split}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

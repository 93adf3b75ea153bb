"""A made-up listing of a hub: as many models as one likes, related as models of real hubs are.

    python listing_dump.py FILE [--models 1000000] [--seed 0]

Few models have most of the children (Zipf), families grow in chains, one in four is a merge of two to five, one
parent in ten is in no listing, and half of all models say nothing of their descent but that they were made from one.
The same number and seed give the same bytes.
"""

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_ORGANISATIONS = 20_000
_RELATIONS = ("finetune", "finetune", "adapter", "adapter", "quantized", "quantized", "")
_LICENSES = ("apache-2.0", "apache-2.0", "mit", "llama3", "gemma", "other", "cc-by-nc-4.0", "")
_TASKS = ("text-generation", "text-generation", "text-classification", "text-to-image", "")
_MERGES = 0.27
_ROOTS = 0.03
_MISSING = 0.06


def name(number: int) -> str:
    """The name of a model."""
    return f"org-{number * 7919 % _ORGANISATIONS}/model-{number}"


def parents(number: int, draw: random.Random) -> list[str]:
    """The models that a model is made from: of those before it the first ones most often, some in no listing."""
    if number < 5 or draw.random() < _ROOTS:
        return []
    chosen = draw.randint(2, 5) if draw.random() < _MERGES else 1
    if chosen == 1 and draw.random() < _MISSING:
        return [f"gone-{draw.randrange(_ORGANISATIONS)}/model-{int(draw.paretovariate(0.8))}"]
    if draw.random() < 0.3:  # a chain goes on
        return [name(max(0, number - draw.randint(1, 50)))]
    found = {name(min(int(number ** draw.random()), number) - 1) for _ in range(chosen)}
    return sorted(found)


def rows(n_models: int, seed: int) -> Iterator[dict[str, Any]]:
    """One row per model, as a hub's API lists them."""
    draw = random.Random(seed)
    for number in range(n_models):
        made_from = parents(number, draw)
        relation = "merge" if len(made_from) > 1 else draw.choice(_RELATIONS) if made_from else ""
        license_, task = draw.choice(_LICENSES), draw.choice(_TASKS)
        tags = ["transformers", "safetensors", "region:us"]
        tags += [f"license:{license_}"] if license_ else []
        tags += [f"base_model:{parent}" for parent in made_from]
        tags += [f"base_model:{relation}:{parent}" for parent in made_from if relation]
        tags += ["merge", "mergekit"] if relation == "merge" else []
        yield {
            "id": name(number), "author": name(number).split("/")[0], "sha": f"{draw.getrandbits(160):040x}",
            "downloads": int(draw.paretovariate(0.6)) - 1, "likes": int(draw.paretovariate(0.9)) - 1,
            "created_at": f"20{20 + number * 6 // n_models}-0{1 + number % 9}-1{number % 10}T08:30:00.000Z",
            "last_modified": f"2026-0{1 + number % 9}-2{number % 9}T17:05:09.000Z",
            "pipeline_tag": task or None, "library_name": "peft" if relation == "adapter" else "transformers",
            "tags": tags, "base_model": made_from[0] if len(made_from) == 1 else made_from or None,
            "license": license_ or None,
        }  # fmt: skip


def write(file: Path, n_models: int, seed: int = 0) -> None:
    """Write the listing as JSON lines."""
    with file.open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows(n_models, seed))


def main() -> None:
    """Write one."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("file", type=Path)
    options.add_argument("--models", type=int, default=1_000_000)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    write(chosen.file, chosen.models, chosen.seed)


if __name__ == "__main__":
    main()

"""Judge the verdict of `reg mergeable` by what becomes of the models: data/mergeable.md.

    python tests/zoo_lineage/outcomes.py ZOO [--splits dev,sealed] [--out data/mergeable.md]

Pairs are averaged for real, at 0.3, 0.5 and 0.7 of the first. A pair is mergeable if at one of the three the average is
right at least `KEPT` times as often as each parent at that parent's own tasks. The verdict knows cards, of which one in
five names a wrong base, and what `reg infer` found; it reads no weights. What it is compared with is the rule people
use: the same declared base model.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from zoo_lineage.ability import ABLE, accuracy, tasks, weights
from zoo_lineage.couples import SORTS, Couple, Member, couples
from zoo_lineage.mergeability import Outcome, document
from zoo_lineage.plan import Family
from zoo_lineage.splits import families
from zoo_lineage.storage import write_card
from zoo_lineage.truth import Facts, claims

import homolog

OUT = Path(__file__).resolve().parents[2] / "data" / "mergeable.md"

SHARES = (0.3, 0.5, 0.7)
"""Of the first parent in an average."""

KEPT = 0.9
"""Share of each parent's right answers that an average must give to be called good."""


@dataclass(frozen=True)
class Said:
    """What is known of a split's pairs before anything is merged.

    Attributes:
        catalog: scanned and inferred.
        ids: folder's name → id.
        bases: folder's name → base models its card names.
    """

    catalog: homolog.Catalog
    ids: Mapping[str, str]
    bases: Mapping[str, frozenset[str]]


def kept(root: Path, split: str, couple: Couple) -> float | None:
    """Of the best average, the least share that is left of a parent's ability; None where a parent has none."""
    parents = [(member, _weights(root / member.folder(split))) for member in (couple.a, couple.b)]
    before = [_able(root / m.folder(split), m) for m, _ in parents]
    if min(before) < ABLE:
        return None
    (a, one), (_, other) = parents
    found = []
    for share in SHARES:
        merged = {name: share * one[name] + (1 - share) * other[name] for name in one}
        after = [accuracy(a.family.shape, merged, tasks(m.family, m.node.name)) for m, _ in parents]
        found.append(min(x / y for x, y in zip(after, before, strict=True)))
    return max(found)


@cache
def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return weights(folder)


_ABILITIES: dict[Path, float] = {}


def _able(folder: Path, member: Member) -> float:
    """How often a model is right at its own tasks."""
    if folder not in _ABILITIES:
        asked = tasks(member.family, member.node.name)
        _ABILITIES[folder] = accuracy(member.family.shape, _weights(folder), asked)
    return _ABILITIES[folder]


def said(root: Path, truth: Facts, work: Path) -> Said:
    """Scan and infer a copy of a split's models with cards; those of a missing base's children name it, too."""
    models = work / "models"
    shutil.copytree(root / "models", models)
    known = truth | {"nodes": [node | {"latent": False} for node in truth["nodes"]]}
    cards = claims(known, truth["split"])
    for card in cards:
        write_card(models / card["child"], card["base_model"])
    catalog = homolog.Catalog(work / "catalog.duckdb")
    homolog.scan(catalog, [str(models)])
    homolog.infer(catalog)
    rows = catalog.rows("select model_id, root from store.address")
    return Said(
        catalog,
        {Path(row["root"]).name: row["model_id"] for row in rows},
        {card["child"]: frozenset(card["base_model"]) for card in cards},
    )


def outcomes(
    zoo: Path, split: str, chosen: Sequence[Family], limit: int | None = None
) -> list[Outcome]:
    """Merge every couple, and ask the verdict and the rules.

    Args:
        zoo: as `zoo_lineage.make` leaves it.
        split: of it.
        chosen: its families.
        limit: couples; None: all.
    """
    root = zoo / split
    truth = json.loads((root / "truth.json").read_text(encoding="utf-8"))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        known = said(root, truth, Path(folder))
        for couple in couples(chosen)[:limit]:
            share = kept(root / "models", split, couple)
            if share is not None:
                found.append(_outcome(split, couple, share, known))
    _weights.cache_clear()
    _ABILITIES.clear()
    return found


def _outcome(split: str, couple: Couple, share: float, known: Said) -> Outcome:
    """What became of a couple, and what was said of it."""
    a, b = (member.folder(split) for member in (couple.a, couple.b))
    verdict = homolog.mergeable(known.catalog, [known.ids[a], known.ids[b]])
    ours, theirs = (known.bases.get(name, frozenset()) for name in (a, b))
    lines = [_line(name, known.bases) for name in (a, b)]
    return Outcome(
        split=split,
        family=couple.a.family.name,
        labels=(couple.a.label, couple.b.label),
        sort=couple.sort,
        kept=share,
        good=share >= KEPT,
        score=verdict.score,
        same_base=bool(ours & theirs) or b in ours or a in theirs,
        same_root=bool(lines[0] & lines[1]),
        homologous=couple.sort not in ("strangers", "other basis"),
    )


def _line(name: str, bases: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """A model and all it descends from, as cards tell."""
    found, todo = {name}, [name]
    while todo:
        new = bases.get(todo.pop(), frozenset()) - found
        found |= new
        todo += sorted(new)
    return frozenset(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Merge, judge and write."""
    parser = argparse.ArgumentParser(description="Judge reg mergeable on the lineage zoo.")
    parser.add_argument("zoo", type=Path)
    parser.add_argument("--splits", default="dev,sealed")
    parser.add_argument("--limit", type=int, help="couples of a split, at most")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found = [
        outcome
        for split in options.splits.split(",")
        for outcome in outcomes(options.zoo, split, families(split), options.limit)
    ]
    options.out.write_text(document(found, SORTS), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

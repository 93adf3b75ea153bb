"""A tree of folders with a good model in it: whatever the others hold, the good one is indexed and each of them is accounted for."""

import json
from collections.abc import Callable
from pathlib import Path

from torture.chance import Chance
from torture.court import Court
from torture.ground import Ground

GOOD = "good"

_QUESTIONS = (
    ("ls",), ("lineage",), ("licenses",), ("show", GOOD), ("mergeable", "NAME", GOOD), ("show", "NAME"), ("show", "NAME", "--tensors", "--json"),
    ("candidates", "NAME"), ("lineage", "NAME", "--format", "dot"), ("lineage", "--format", "graphml"), ("lineage", "--format", "mermaid"),
    ("licenses", "NAME", "--json"), ("verify", "NAME"), ("stats", "NAME"), ("infer",), ("sql", "from claims"), ("sql", "from problems"),
    ("sql", "from conflicts"), ("sql", "from scores"), ("sql", "from tensors"), ("lineage", "NAME"), ("push", "NAME", "org/name", "--dry-run"),
    ("mergeable", "NAME", GOOD, "--json"), ("extract", "NAME", "--base", GOOD, "--rank", "1", "-o", "extracted"),
    ("plan", "--method", "linear", "NAME", GOOD), ("plan", "--method", "ties", "NAME", GOOD, "--base", GOOD, "--json"),
    ("merge", "--method", "slerp", "--set", "t=0.5", "--allow-unrelated", "NAME", GOOD, "-o", "made"),
)  # fmt: skip
"""What may be asked afterwards."""


def damaged_few(
    court: Court, ground: Ground, chance: Chance, kind: str, damage: Callable[[Chance, Path], None], *, most: int = 3
) -> None:  # fmt: skip
    """Damage a few copies of one good folder, and scan them."""
    for i in range(chance.randrange(1, most + 1)):
        damage(chance, ground.copy(kind, f"tree/m{i}"))
    scanned(court, ground, chance, n_questions=2)


def scanned(court: Court, ground: Ground, chance: Chance, *, n_questions: int = 1) -> None:
    """Scan all that lies below ``tree``, twice, judge the report, and ask a few questions of it."""
    tree = ground.folder / "tree"
    ground.copy("base", f"tree/{GOOD}")
    ground.catalog(known=False)
    ended = court.types("scan", "tree", "--json")
    if ended.code != 0:
        court.finds("scan did not end well", ended.err[-3000:])
        return
    report = json.loads(ended.out)
    names = [model["name"] for model in report["models"]]
    if GOOD not in names:
        court.lost_rows.append(f"the neighbour is lost: {ended.out[:2000]}")
    told = {problem["address"] for problem in report["problems"]}
    models = json.loads(court.types("sql", "select unnest(addresses) as a from models", "--json").out or "[]")  # fmt: skip
    told |= {str(Path(model["a"])) for model in models}
    for folder in sorted(tree.iterdir()):
        if folder.is_dir() and not any(at.startswith(str(folder)) for at in told):
            court.lost_rows.append(f"{folder.name} is neither a model nor a problem: {ended.out[:2000]}")  # fmt: skip
    again = court.types("scan", "tree", "--json")
    if again.code == 0 and json.loads(again.out)["problems"] != report["problems"]:
        court.finds("a second scan finds other problems", f"{ended.out[:2000]}\n{again.out[:2000]}")
    others = [name for name in names if name != GOOD] or [GOOD]
    for _ in range(n_questions):
        name = chance.one(others)
        words = [name if word == "NAME" else word for word in chance.one(_QUESTIONS)]
        made = ground.folder / words[-1] if "-o" in words else None
        if made and made.exists():  # by the question before
            continue
        ended = court.types(*words)
        if made and ended.code != 0 and made.exists():
            court.half_models.append(f"{' '.join(words)} left {sorted(made.rglob('*'))}")

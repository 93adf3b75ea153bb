"""The trained family merged by every method: accuracy, time and memory in one table, `data/methods.md`.

Three experts of one base say how much of each skill a merge keeps; an expert and a continued pre-training that moved
fifteen times as far say which methods can merge unequal task vectors; one expert says what an edit costs. Every method
has its paper's defaults but for what `SETTINGS` says.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import homolog
from engine.collect import Kind
from engine.method import Method
from registry.catalog import Catalog

ROOT = Path(__file__).parents[2]
ZOO = ROOT / "data" / "zoo"
EXPERTS = ("arithmetic", "reverse", "sort")
FAR = ("arithmetic", "prose")
N_QUESTIONS = 100

STATISTICS: dict[str, Kind] = {"fisher": "fisher", "regmean": "gram"}
"""Methods that need statistics of each model, and which."""

SETTINGS: dict[str, dict[str, Any]] = {
    "nearswap": {"t": 0.01},
    "slerp": {"t": 0.5},
}
"""Parameters that have no default, or whose default is for models of another size."""


@dataclass(frozen=True)
class Row:
    """What one merge came to.

    Attributes:
        method: its name.
        settings: parameters other than the defaults, in words.
        accuracy: suite → exact match in [0, 1].
        seconds: the merge took.
        peak_bytes: memory beyond what the process had before.
    """

    method: str
    settings: str
    accuracy: Mapping[str, float]
    seconds: float
    peak_bytes: int

    @property
    def mean(self) -> float:
        """Mean accuracy over the suites."""
        return sum(self.accuracy.values()) / len(self.accuracy)


def measured(catalog: Path, recipe: homolog.Recipe, folder: Path) -> tuple[float, int]:
    """Merge in a process of its own: (seconds, bytes of memory at the peak beyond those before)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
            before, start = memory("VmRSS"), time.monotonic()
            homolog.merge(Catalog(catalog), recipe, folder)
            line = f"{time.monotonic() - start} {memory('VmHWM') - before}"
            os.write(writing, line.encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        answer = pipe.read().split()
    if status or not answer:
        message = f"{recipe.method} failed"
        raise RuntimeError(message)
    return float(answer[0]), int(answer[1])


def memory(field: str) -> int:
    """A field of this process's memory, bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    line = next(line for line in lines if line.startswith(field + ":"))
    return int(line.split()[1]) << 10


def accuracy(catalog: Catalog, folder: Path, suite: str) -> float:
    """Exact match of a model on the first questions of a suite."""
    path = ZOO / "suites" / f"{suite}.jsonl"
    return homolog.run_suite(
        catalog, catalog.find(str(folder)), path, limit=N_QUESTIONS
    ).score.value


def statistics(catalog: Catalog, model: str, kind: Kind, room: Path) -> str:
    """Fisher information or Gram matrices of a model on its own suite."""
    folder = room / f"{model}-{kind}"
    if not folder.exists():
        suite = ZOO / "suites" / f"{model}.jsonl"
        homolog.collect(catalog, catalog.find(str(ZOO / model)), suite, folder, kind=kind)
    return str(folder)


def task_arithmetic(catalog: Catalog, models: Sequence[str], room: Path) -> str:
    """The merge that `svc` calibrates."""
    folder = room / f"sum-{'-'.join(models)}"
    if not folder.exists():
        parts = tuple(homolog.Part(str(ZOO / model)) for model in models)
        homolog.merge(catalog, homolog.Recipe("task_arithmetic", parts, str(ZOO / "base")), folder)
    return str(folder)


def row(catalog: Catalog, method: Method, models: Sequence[str], room: Path, **extra: Any) -> Row:
    """Merge models of the family by one method and score the result on their suites."""
    settings = SETTINGS.get(method.name, {}) | extra
    kind = STATISTICS.get(method.name)
    parts = tuple(
        homolog.Part(str(ZOO / model), statistics=kind and statistics(catalog, model, kind, room))
        for model in models
    )
    if method.name == "svc":  # calibrates a merge that is there
        parts = (homolog.Part(task_arithmetic(catalog, models, room)), *parts)
    base = None if method.base == "none" else str(ZOO / "base")
    recipe = homolog.Recipe(method.name, parts, base, settings, seed=0)
    name = "-".join([method.name, *models, *map(str, extra.values())])
    seconds, peak = measured(catalog.path, recipe, room / name)
    scores = {suite: accuracy(catalog, room / name, suite) for suite in models}
    said = ", ".join(f"{k} {v}" for k, v in settings.items())
    return Row(method.name, said, scores, seconds, peak)


def table(title: str, rows: Sequence[Row], suites: Sequence[str]) -> str:
    """Rows as Markdown, the best mean first."""
    head = f"| {title} | settings | " + " | ".join(suites) + " | mean | seconds | peak MB |\n"
    rule = "| --- | --- |" + " --: |" * (len(suites) + 3) + "\n"
    lines = [
        f"| {r.method} | {r.settings} | "
        + " | ".join(f"{r.accuracy[s]:.2f}" for s in suites)
        + f" | {r.mean:.3f} | {r.seconds:.2f} | {r.peak_bytes / 1e6:.0f} |"
        for r in sorted(rows, key=lambda r: (-r.mean, r.method))
    ]
    return head + rule + "\n".join(lines) + "\n"


def main() -> None:
    """Merge, score, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "methods.md")
    parser.add_argument("--only", nargs="*", default=None)
    asked = parser.parse_args()
    torch.set_num_threads(2)
    chosen = [m for m in homolog.methods().values() if asked.only is None or m.name in asked.only]
    with tempfile.TemporaryDirectory() as place:
        room = Path(place)
        catalog = Catalog(room / "catalog.duckdb")
        homolog.scan(catalog, [str(ZOO)])
        merges = [m for m in chosen if m.makes == "merge"]
        three = [m for m in merges if m.n_models[1] >= len(EXPERTS)]
        two = [m for m in merges if m.n_models[0] <= 2 <= m.n_models[1]]
        text = INTRODUCTION
        for title, models, methods in (("three experts", EXPERTS, three), ("unequal", FAR, two)):
            rows = [said(row(catalog, m, models, room)) for m in methods]
            text += f"\n## {TITLES[title]}\n\n" + table(title, rows, models)
        edits = [m for m in chosen if m.makes == "edit" or m.n_models == (1, 1)]
        rows = [said(row(catalog, m, EXPERTS[:1], room)) for m in edits]
        text += f"\n## {TITLES['edit']}\n\n" + table("edit", rows, EXPERTS[:1])
    asked.out.write_text(text, encoding="utf-8")


def said(made: Row) -> Row:
    """The row, after telling whoever waits."""
    scores = " ".join(f"{suite} {value:.2f}" for suite, value in made.accuracy.items())
    print(f"{made.method:22} {scores}  {made.seconds:.2f} s", flush=True)
    return made


TITLES = {
    "three experts": "Three experts of one base: arithmetic, reverse, sort",
    "unequal": "An expert and a continued pre-training that went fifteen times as far: arithmetic, prose",
    "edit": "Edits of one expert: arithmetic",
}

INTRODUCTION = f"""# Every method on the trained family

Exact match over the first {N_QUESTIONS} questions of each suite; `make zoo-report` writes this file again. Every
method has its paper's defaults, unless `settings` says otherwise: a method that a search over its parameters would
help is shown without one. The experts alone have 1.00 on their own suite, the base 0.00 to 0.05. Seconds and memory
are those of merging 0.45 M parameters, mostly fixed costs; they compare methods, not machines.
"""


if __name__ == "__main__":
    main()

"""Judge `reg infer` on the lineage zoo, beside MoTHer's rule: data/lineage.md.

    python tests/zoo_lineage/report.py ZOO [--splits dev,sealed] [--regimes 2048,8192,32768,full] [--out data/lineage.md]

Models are scanned and inferred as users do it; nothing is known of them but their weights: folders have opaque names and
equal times, and there are no cards. The sealed split is only ever reported.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from zoo_lineage.judge import judge
from zoo_lineage.matching import Facts
from zoo_lineage.mother import better

import homolog

OUT = Path(__file__).resolve().parents[2] / "data" / "lineage.md"

_FIGURES = (
    ("undirected F1", ("undirected", "f1")), ("directed F1", ("directed", "f1")),
    ("right direction", ("direction_accuracy",)), ("roots", ("root_accuracy",)),
    ("merges P", ("merge_detection", "precision")), ("merges R", ("merge_detection", "recall")),
    ("parent sets F1", ("parent_sets", "f1")), ("coefficients MAE", ("coefficient_mae",)),
    ("kinds macro-F1", ("kind_macro_f1",)), ("ECE", ("ece",)), ("components ARI", ("component_ari",)),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One judged inference.

    Attributes:
        split: dev or sealed.
        regime: entries looked at, or the rule's name.
        report: of the judge.
        seconds: it took, without reading.
        read_bytes: a model.
    """

    split: str
    regime: str
    report: Facts
    seconds: float
    read_bytes: float


def inferred(root: Path, regime: str) -> tuple[Facts, float, float]:
    """What `reg infer` says of a split, as the judge reads it; seconds, and bytes read a model."""
    with tempfile.TemporaryDirectory() as folder:
        catalog = homolog.Catalog(Path(folder) / "catalog.duckdb")
        homolog.scan(catalog, [str(root / "models")])
        found = homolog.infer(catalog, n_scalars=None if regime == "full" else int(regime))
        rows = catalog.rows("select model_id, root from store.address")
    names = {row["model_id"]: Path(row["root"]).name for row in rows}
    copies: dict[str, list[str]] = {}
    for row in rows:
        copies.setdefault(row["model_id"], []).append(Path(row["root"]).name)
    edges = [
        {"child": other, "parent": names[model], "kind": "copy", "confidence": 1.0}
        for model, folders in sorted(copies.items())
        for other in sorted(folders)
        if other != names[model]
    ]
    edges += [
        {
            "child": names.get(e.child, e.child), "parent": names.get(e.parent, e.parent), "kind": e.kind.name,
            "coefficient": e.coefficient, "confidence": e.confidence,
        }
        for e in found.edges
        if e.role != "base"
    ]  # fmt: skip
    ends = {end for edge in edges for end in (edge["child"], edge["parent"])}
    said = {
        "edges": edges,
        "latent": sorted(ends - set(names.values()) - {n for c in copies.values() for n in c}),
        "homologous_not_aligned": [[names[a], names[b]] for a, b, _ in found.unaligned],
    }
    return said, found.seconds, found.read_bytes / max(1, found.n_models)


def measure(zoo: Path, split: str, regimes: Sequence[str]) -> list[Row]:
    """Judge every regime of a split, and MoTHer's rule."""
    root = zoo / split
    truth = json.loads((root / "truth.json").read_text(encoding="utf-8"))
    found = []
    for regime in regimes:
        said, seconds, n_bytes = inferred(root, regime)
        found.append(Row(split, regime, judge(truth, said), seconds, n_bytes))
        print(f"{split} {regime}: {found[-1].report['directed']['f1']:.3f} directed", flush=True)
    started = time.monotonic()
    said, _ = better(root)
    report = judge(truth, said)
    found.append(
        Row(split, "MoTHer, all weights", report, time.monotonic() - started, float("nan"))
    )
    return found


def table(rows: Sequence[Row]) -> list[str]:
    """The figures as a table."""
    names = ["split", "entries a model", *(name for name, _ in _FIGURES), "s", "kB read a model"]
    lines = ["| " + " | ".join(names) + " |", "| --- | --- |" + " --: |" * (len(names) - 2)]
    for row in rows:
        values = [_figure(row.report, path) for _, path in _FIGURES]
        n_bytes = "" if row.read_bytes != row.read_bytes else f"{row.read_bytes / 1000:.0f}"
        cells = [row.split, row.regime, *values, f"{row.seconds:.0f}", n_bytes]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _figure(report: Facts, path: Sequence[str]) -> str:
    """One figure of a report."""
    value = report
    for key in path:
        value = value[key]
    return "" if value is None else f"{value:.3f}"


def failures(row: Row) -> list[str]:
    """What went wrong, by name."""
    lines = [f"### {row.split}, {row.regime} entries a model", ""]
    cases = {"wrong_roots": row.report["wrong_roots"], **row.report["failures"]}
    for name, found in cases.items():
        if found:
            lines += [
                f"{name.replace('_', ' ')} ({len(found)}):",
                "",
                *(f"* {case}" for case in found),
                "",
            ]
    return lines


def document(rows: Sequence[Row]) -> str:
    """The whole page."""
    shown = {}
    for row in rows:
        if not row.regime.startswith("MoTHer"):
            shown[row.split] = row  # the last regime of each split
    lines = [
        "# Lineage from the weights, judged", "", "`make zoo-lineage` measures this again.", "",
        "Families of small trained models of three architectures (`tests/zoo_lineage`): trees, chains, fans, merges,",
        "edits, copies under other names and in other bases, missing bases, strangers of the same shape. `reg infer` sees",
        "weights only. What counts as right is said in `tests/zoo_lineage/matching.py`. Rules and thresholds were chosen on",
        "the dev split and on families like it; the sealed split has other seeds, widths, depths, optimisers, learning",
        "rates, recipes and orders of tasks, and is only reported. MoTHer is the rule of its paper, written anew, told how many",
        "families there are; the better setting of its flag.", "", *table(rows), "", "## What went wrong", "",
    ]  # fmt: skip
    for row in shown.values():
        lines += failures(row)
    return "\n".join(lines).rstrip() + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="Judge reg infer on the lineage zoo.")
    parser.add_argument("zoo", type=Path)
    parser.add_argument("--splits", default="dev,sealed")
    parser.add_argument("--regimes", default="2048,8192,32768,full")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    rows = [
        row
        for split in options.splits.split(",")
        for row in measure(options.zoo, split, options.regimes.split(","))
    ]
    options.out.write_text(document(rows), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Judge predicted family trees: edges, directions, roots, merges, coefficients, kinds, confidence.

    python tests/zoo_lineage/judge.py FOLDER/SPLIT/truth.json predictions.json [--json REPORT]

``predictions.json``: {"edges": [{"child", "parent", "kind", "coefficient", "method", "confidence"}, …], "latent": [names
of parents that are not there], "homologous_not_aligned": [[a, b], …]}; of an edge only child and parent are needed.
What counts as right is said in `zoo_lineage.matching`.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import comb
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from zoo_lineage.matching import Facts, Matching, Union, Verdict, match

NONE = "(none)"
"""In the confusion of kinds: no such edge."""

_BINS = 10
_FAR = 0.02
"""Coefficients farther off are listed among the failures."""


def judge(truth: Facts, predictions: Facts) -> Facts:
    """All scores of a prediction, overall and the two edge scores per architecture."""
    report = scores(truth, predictions)
    kinds = sorted({node["architecture"] for node in truth["nodes"]})
    report["by_architecture"] = {
        kind: {
            key: part[key]["f1"]
            for part in [scores(*_only(truth, predictions, kind))]
            for key in ("undirected", "directed")
        }
        for kind in kinds
    }
    return report


def scores(truth: Facts, predictions: Facts) -> Facts:
    """The scores; fractions in [0, 1], None where there is nothing to judge."""
    found = match(truth, predictions)
    verdicts = found.verdicts
    n_true = len(found.edges) + found.n_copies
    told = [v for v in verdicts if v.truth is not None and v.truth["direction_identifiable"]]
    return {
        "n_models": sum(not node["latent"] for node in found.nodes.values()),
        "n_true_edges": n_true,
        "n_predicted_edges": len(verdicts),
        "undirected": rates(sum(v.truth is not None for v in verdicts), len(verdicts), n_true),
        "directed": rates(sum(v.right for v in verdicts), len(verdicts), n_true),
        "directed_observed": _observed(found),
        "direction_accuracy": _share(v.forward for v in told),
        **_roots(found),
        **_merges(found),
        **_coefficients(found),
        **kinds(found),
        **confidence(verdicts),
        "component_ari": _components(truth, predictions),
        **_homologous(found, predictions),
        "failures": _failures(found),
    }


def rates(right: int, predicted: int, true: int) -> Facts:
    """Precision, recall, F1; all 1 where nothing is to be found and nothing was said."""
    if not predicted and not true:
        return {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    precision = right / predicted if predicted else 0.0
    recall = right / true if true else 0.0
    return {"precision": precision, "recall": recall, "f1": 2 * right / (predicted + true)}


def _share(answers: Iterable[bool]) -> float | None:
    given = list(answers)
    return sum(given) / len(given) if given else None


def _observed(found: Matching) -> Facts:
    """Directed edges both of whose ends are there."""
    seen = [v for v in found.verdicts if all(_there(found, n) for n in (v.child, v.parent))]
    true = [pair for pair in found.edges if not found.latent & set(pair)]
    return rates(sum(v.right for v in seen), len(seen), len(true) + found.n_copies)


def _there(found: Matching, name: str) -> bool:
    return name in found.nodes and name not in found.latent


def _roots(found: Matching) -> Facts:
    """Per true family of two or more classes: is the parentless node with the most descendants its root?"""
    true = {n: node for n, node in found.nodes.items() if node["root"]}
    children: dict[str, set[str]] = {}
    for v in found.verdicts:
        if v.child != v.parent:
            children.setdefault(v.parent, set()).add(v.child)
    has_parent = {child for below in children.values() for child in below}
    members = _family_members(found)
    wrong, answers = [], []
    for name, node in sorted(true.items()):
        mine = members[node["family"]]
        if len(mine) == 1:
            continue
        own = mine | {p for p, below in children.items() if p.startswith("?") and below & mine}
        tops = sorted(own - has_parent, key=lambda n: (-len(below(n, children)), n))
        answers.append(bool(tops) and tops[0] == found.classes[name])
        if not answers[-1]:
            said = found.label(tops[0]) if tops else "nobody"
            wrong.append(f"{node['family']}: {said} instead of {node['label']}")
    return {"root_accuracy": _share(answers), "wrong_roots": wrong}


def _family_members(found: Matching) -> dict[str, set[str]]:
    members: dict[str, set[str]] = {}
    for name, node in found.nodes.items():
        members.setdefault(node["family"], set()).add(found.classes[name])
    return members


def below(node: str, children: Mapping[str, set[str]]) -> set[str]:
    """All descendants."""
    seen: set[str] = set()
    open_ = [node]
    while open_:
        for child in sorted(children.get(open_.pop(), ())):
            if child not in seen:
                seen.add(child)
                open_.append(child)
    return seen


def _parents(pairs: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """Child → its parents, of the children with two or more."""
    found: dict[str, set[str]] = {}
    for child, parent in pairs:
        if child != parent:
            found.setdefault(child, set()).add(parent)
    return {child: above for child, above in found.items() if len(above) > 1}


def _merges(found: Matching) -> Facts:
    """Which models have several parents, and which those are."""
    true = _parents(found.edges)
    said = _parents((v.child, v.parent) for v in found.verdicts)
    every: dict[str, set[str]] = {}
    for v in found.verdicts:
        every.setdefault(v.child, set()).add(v.parent)
    named = {child: every.get(child, set()) - {child} for child in true}
    right = sum(len(named[child] & true[child]) for child in true)
    methods: dict[str, Counter[str]] = {}
    for child, above in sorted(true.items()):
        edge = next(e for (c, _), e in sorted(found.edges.items()) if c == child)
        count = methods.setdefault(f"{edge['kind']} {edge['method']}".strip(), Counter())
        told = {v.edge.get("method") for v in found.verdicts if v.child == child}
        bases = found.nodes[child]["neutral"]
        count.update(
            of=1, with_base=int(bool(bases) and found.latent.isdisjoint(bases)), detected=int(child in said), parents_right=int(named[child] == above),
            method_right=int(told - {None, ""} == {edge["method"]}),
        )  # fmt: skip
    return {
        "merge_detection": rates(len(set(true) & set(said)), len(said), len(true)),
        "parent_sets": rates(
            right,
            sum(len(above) for above in named.values()),
            sum(len(above) for above in true.values()),
        ),
        "merges_by_method": {name: dict(count) for name, count in sorted(methods.items())},
    }


def _coefficients(found: Matching) -> Facts:
    """Mean absolute error over the exact recipes' edges that were found and given a coefficient."""
    exact = [e for e in found.edges.values() if e["exact"] and e["coefficient"] is not None]
    errors = [e for _, e in _coefficient_errors(found)]
    return {
        "coefficient_mae": sum(errors) / len(errors) if errors else None,
        "coefficients_given": len(errors) / len(exact) if exact else None,
    }


def _coefficient_errors(found: Matching) -> list[tuple[Verdict, float]]:
    return [
        (v, abs(v.edge["coefficient"] - v.truth["coefficient"]))
        for v in found.verdicts
        if v.right and v.truth["exact"] and v.edge.get("coefficient") is not None
    ]


def kinds(found: Matching) -> Facts:
    """Macro F1 of kinds on the edges found, whatever their direction; and end to end, where missing and extra edges count."""
    pairs = [(v.truth["kind"] if v.truth else NONE, v.edge.get("kind", "unknown")) for v in found.verdicts]  # fmt: skip
    hits = [pair for pair in pairs if pair[0] != NONE]
    missed = [(e["kind"], NONE) for e in found.missed]
    confusion: dict[str, Counter[str]] = {}
    for true, said in sorted([*pairs, *missed]):
        confusion.setdefault(true, Counter())[said] += 1
    return {
        "kind_macro_f1": _macro_f1(hits),
        "kind_macro_f1_end_to_end": _macro_f1([*pairs, *missed]),
        "kind_confusion": {true: dict(row) for true, row in confusion.items()},
    }


def _macro_f1(pairs: Sequence[tuple[str, str]]) -> float | None:
    """The mean over the true kinds of 2 tp / (said + true)."""
    true, said = Counter(t for t, _ in pairs), Counter(s for _, s in pairs)
    both = Counter(t for t, s in pairs if t == s)
    real = sorted(set(true) - {NONE})
    return sum(2 * both[k] / (true[k] + said[k]) for k in real) / len(real) if real else None


def confidence(verdicts: Sequence[Verdict]) -> Facts:
    """Brier score, and expected calibration error in ten equal bins, of the edges that carry a confidence."""
    said = [(v.edge["confidence"], v.right) for v in verdicts if v.edge.get("confidence") is not None]  # fmt: skip
    if not said:
        return {"ece": None, "brier": None, "reliability": []}
    bins: dict[int, list[tuple[float, bool]]] = {}
    for value, right in said:
        bins.setdefault(min(int(value * _BINS), _BINS - 1), []).append((value, right))
    gaps = [abs(sum(v for v, _ in b) - sum(r for _, r in b)) for _, b in sorted(bins.items())]
    return {
        "ece": sum(gaps) / len(said),
        "brier": sum((value - right) ** 2 for value, right in said) / len(said),
        "reliability": [_bin(bins[i]) for i in sorted(bins)],
    }


def _bin(said: Sequence[tuple[float, bool]]) -> Facts:
    """Edges of about one confidence: how many, the mean of what was said, and the share that is right."""
    n = len(said)
    return {"edges": n, "said": sum(v for v, _ in said) / n, "right": sum(r for _, r in said) / n}


def _components(truth: Facts, predictions: Facts) -> float:
    """Adjusted Rand index of families against connected components; homologous pairs connect too."""
    union = Union()
    for edge in predictions["edges"]:
        union.join(edge["child"], edge["parent"])
    for a, b in predictions.get("homologous_not_aligned", []):
        union.join(a, b)
    there = [node for node in truth["nodes"] if not node["latent"]]
    return adjusted_rand([n["family"] for n in there], [union.find(n["name"]) for n in there])


def adjusted_rand(a: Sequence[str], b: Sequence[str]) -> float:
    """Hubert and Arabie 1985: 1 for the same partition, about 0 for an unrelated one."""
    both = sum(comb(n, 2) for n in Counter(zip(a, b, strict=True)).values())
    left = sum(comb(n, 2) for n in Counter(a).values())
    right = sum(comb(n, 2) for n in Counter(b).values())
    expected = left * right / max(comb(len(a), 2), 1)
    top = (left + right) / 2
    return 1.0 if top == expected else (both - expected) / (top - expected)


def _homologous(found: Matching, predictions: Facts) -> Facts:
    """Pairs of one family in different bases: precision over the pairs said, recall over the turned bases.

    An edge of kind "permuted" says such a pair too.
    """
    said = {tuple(sorted(pair)) for pair in predictions.get("homologous_not_aligned", [])}
    for edge in predictions["edges"]:
        if edge.get("kind") == "permuted":
            said.add(tuple(sorted((edge["child"], edge["parent"]))))
    nodes = found.nodes
    known = sorted(pair for pair in said if all(name in nodes for name in pair))
    right = [
        (a, b)
        for a, b in known
        if nodes[a]["family"] == nodes[b]["family"] and nodes[a]["basis"] != nodes[b]["basis"]
    ]
    turned = {n["basis"] for n in nodes.values() if nodes[n["basis"]]["kind"] == "permuted"}
    reached = {nodes[name]["basis"] for pair in right for name in pair} & turned
    return {
        "homologous_precision": len(right) / len(known) if known else None,
        "homologous_recall": len(reached) / len(turned) if turned else None,
    }


def _failures(found: Matching) -> dict[str, list[str]]:
    """What went wrong, by the labels of the truth."""

    def arrow(child: str, parent: str) -> str:
        return f"{found.label(child)} <- {found.label(parent)}"

    hits = [v for v in found.verdicts if v.truth is not None]
    failures = {
        "missed": [
            f"{arrow(e['child'], e['parent'])} ({e['kind']} {e['method']})".replace(" )", ")")
            for e in found.missed
        ],
        "spurious": [
            arrow(v.edge["child"], v.edge["parent"]) for v in found.verdicts if v.truth is None
        ],
        "reversed": [arrow(v.child, v.parent) for v in hits if not v.forward],
        "wrong_kind": [
            f"{arrow(v.edge['child'], v.edge['parent'])}: {v.edge.get('kind', 'unknown')} "
            f"instead of {v.truth['kind']}"
            for v in hits
            if v.edge.get("kind", "unknown") != v.truth["kind"]
        ],
        "coefficients": [
            f"{arrow(v.child, v.parent)}: {v.edge['coefficient']:.3f} "
            f"instead of {v.truth['coefficient']:.3f}"
            for v, error in _coefficient_errors(found)
            if error > _FAR
        ],
    }
    return {name: sorted(cases) for name, cases in failures.items()}


def _only(truth: Facts, predictions: Facts, architecture: str) -> tuple[Facts, Facts]:
    """The part of truth and prediction that touches one architecture."""
    nodes = [n for n in truth["nodes"] if n["architecture"] == architecture]
    mine = {node["name"] for node in nodes}
    said = [e for e in predictions["edges"] if e["child"] in mine or e["parent"] in mine]
    ends = {e[end] for e in said for end in ("child", "parent")} - mine
    other = {n["name"]: n for n in truth["nodes"]}
    nodes += [other[name] | {"neutral": []} for name in sorted(ends & set(other))]
    edges = [e for e in truth["edges"] if e["child"] in mine]
    return {**truth, "nodes": nodes, "edges": edges}, {**predictions, "edges": said}


def render(report: Facts) -> str:
    """The report for people."""
    lines = []
    for name, value in report.items():
        if name in ("failures", "wrong_roots", "kind_confusion", "merges_by_method", "reliability"):
            continue
        lines.append(f"{name:28} {_shown(value)}")
    for name in ("merges_by_method", "kind_confusion"):
        lines += ["", name, *(f"  {key:26} {row}" for key, row in report[name].items())]
    cases = {"wrong_roots": report["wrong_roots"], **report["failures"]}
    for name, found in cases.items():
        lines += ["", f"{name}: {len(found)}", *(f"  {case}" for case in found)]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, dict):
        return "  ".join(f"{key} {_shown(part)}" for key, part in value.items())
    return "-" if value is None else str(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read, judge, print."""
    parser = argparse.ArgumentParser(description="Judge predicted family trees.")
    parser.add_argument("truth", type=Path)
    parser.add_argument("predictions", type=Path)
    parser.add_argument("--json", type=Path, help="where to write the report too")
    options = parser.parse_args(arguments)
    truth, predictions = (
        json.loads(file.read_text(encoding="utf-8"))
        for file in (options.truth, options.predictions)
    )
    report = judge(truth, predictions)
    print(render(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What is measured: merges by the common methods, statistics of a pair, a scan, and the memory of many parents."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

ROOT = Path(__file__).parents[2]
REG = (sys.executable, "-m", "cli")
STREAMED = ("element", "tensor", "model")
"""Scopes of the methods that stream."""

GATHERED = frozenset(
    {"iso_c", "iso_cts", "tsv_merge", "knots", "opcm", "svc", "wudi", "low_rank", "regmean", "fisher"}
)  # fmt: skip
"""Methods that decompose whole matrices or need statistics: they are not measured."""

MANY = 8
"""Parents of the memory cases."""

Work = Literal["merge", "stats", "scan"]
Start = Literal["none", "base", "first"]


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    Attributes:
        name: as `--only` knows it.
        work: the command.
        n: children that take part.
        method: of a merge.
        base: what the recipe calls its base: nothing, the family's base or the first child.
        own: parameters of each model.
        shared: parameters of all.
        mergekit: mergekit has this method.
        floor: a plain read and write is measured beside it.
    """

    name: str
    work: Work = "merge"
    n: int = 3
    method: str = ""
    base: Start = "base"
    own: Mapping[str, float] = field(default_factory=dict)
    shared: Mapping[str, float] = field(default_factory=dict)
    mergekit: bool = True
    floor: bool = True

    @property
    def start(self) -> str:
        """Name of the case that is the same command on next to nothing."""
        return f"start-{self.work}"

    @property
    def writes(self) -> bool:
        """It makes a model."""
        return self.work == "merge"

    def inputs(self, members: Sequence[Path]) -> list[Path]:
        """The models it reads; of a scan the whole family."""
        children = list(members[1 : 1 + self.n])
        return children if self.base in {"none", "first"} else [*children, members[0]]

    def recipe(self, members: Sequence[Path]) -> str:
        """What `reg merge` and `mergekit-yaml` are both given."""
        children = members[1 : 1 + self.n]
        models = [
            {"model": str(m)} | ({"parameters": dict(self.own)} if self.own else {})
            for m in children
        ]
        document: dict[str, Any] = {"merge_method": self.method, "models": models}
        if self.base != "none":
            document["base_model"] = str(members[0] if self.base == "base" else children[0])
        if self.shared:
            document["parameters"] = dict(self.shared)
        return yaml.safe_dump(document | {"dtype": "bfloat16"}, sort_keys=False)

    def command(self, members: Sequence[Path], recipe: Path, output: Path) -> list[str]:
        """The words after `reg`, but for the catalog."""
        if self.work == "scan":
            return ["scan", *map(str, self.inputs(members))]
        if self.work == "stats":
            return ["stats", str(members[1]), "--base", str(members[0])]
        return ["merge", str(recipe), "-o", str(output), "--allow-unrelated"]


PRUNED = {"weight": 0.5, "density": 0.5}
CASES = (
    Case("linear-2", n=2, method="linear", base="none", own={"weight": 0.5}),
    Case("linear-3", method="linear", base="none", own={"weight": 0.5}),
    Case("slerp-2", n=2, method="slerp", base="first", shared={"t": 0.5}),
    Case("task_arithmetic-3", method="task_arithmetic", own={"weight": 0.5}),
    Case("ties-3", method="ties", own=PRUNED),
    Case("dare_linear-3", method="dare_linear", own=PRUNED),
    Case("dare_ties-3", method="dare_ties", own=PRUNED),
    Case("della-3", method="della", own={**PRUNED, "epsilon": 0.1}),
    Case("widen-2", n=2, method="widen", mergekit=False),
    Case("model_stock-3", method="model_stock"),
    Case("sce-3", method="sce", shared={"select_topk": 0.5}),
    Case("stats", work="stats", n=1, mergekit=False),
    Case("scan", work="scan", mergekit=False),
)
STARTS = tuple(
    Case(
        f"start-{work}", work, n, method="linear", base=base, own={"weight": 0.5}, mergekit=False,
        floor=False,
    )
    for work, n, base in (("merge", 2, "none"), ("stats", 1, "base"), ("scan", 3, "base"))
)  # fmt: skip


def memory_cases() -> list[Case]:
    """A case of as many parents as may be, for each method that streams; the list is asked of `reg methods`."""
    answer = subprocess.run(
        [*REG, "methods", "--json"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return [
        Case(
            f"memory-{one['name']}", n=min(MANY, one["n_models"][1]), method=one["name"],
            base="base" if one["base"] == "needed" else "none", mergekit=False, floor=False,
        )
        for one in json.loads(answer.stdout)
        if one["scope"] in STREAMED and one["name"] not in GATHERED
    ]  # fmt: skip

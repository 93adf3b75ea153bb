"""Who descends from whom: the nodes of a family, and the templates that families are made of.

A node names an act of `zoo_lineage.family` that makes its weights from its parents'; the graph's truth is read off the
same nodes. Parts are put together by ``split``: the sealed split has other sizes, seeds, optimisers, learning rates,
coefficients and orders of tasks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zoo_lineage.network import Shape


@dataclass(frozen=True)
class Node:
    """One model.

    Attributes:
        name: within its family.
        kind: of its edges, in the words of the lineage graph; of a root "base", "random" or "distilled".
        parents: whose weights it was made from.
        act: how, a key of `zoo_lineage.family.ACTS`.
        options: of the act.
        neutral: nodes that took part without being a parent: a merge's base, a negation's source.
        coefficients: one per parent, where the recipe has them.
        exact: the weights are those coefficients times the parents', plus the neutral node's for the rest.
        method: of a merge or an edit.
        dtype: on disk: "BF16", "F16" or "F32".
        renamed: other tensor names on disk.
        shards: files on disk.
        teacher: whom a distilled student imitates.
        turned: a basis of its own.
    """

    name: str
    kind: str
    parents: tuple[str, ...] = ()
    act: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    neutral: tuple[str, ...] = ()
    coefficients: tuple[float, ...] = ()
    exact: bool = False
    method: str = ""
    dtype: str = "BF16"
    renamed: bool = False
    shards: int = 1
    teacher: str = ""
    turned: bool = False


@dataclass(frozen=True)
class Taste:
    """The figures of a split's recipes."""

    pair: tuple[float, float] = (0.6, 0.4)
    arithmetic: float = 0.7
    arc: float = 0.4
    density: float = 0.5
    drop: float = 0.5


@dataclass(frozen=True)
class Family:
    """One base and all that comes of it, with its distractors.

    Attributes:
        name: within the split.
        shape: of the base.
        nodes: in an order in which parents come first.
        seed: of the base; every other random number follows from it and the names.
        optimiser: see `zoo_lineage.training.Course`.
        lr: peak learning rate of a fine-tune; the base's is six times as much.
        order: the first task; the others follow in their order, round and round.
        missing: the base's folder is not there.
    """

    name: str
    shape: Shape
    nodes: tuple[Node, ...]
    seed: int
    optimiser: str = "adamw-0.01"
    lr: float = 6e-4
    order: int = 0
    missing: bool = False


BASE = Node("base", "base", act="pretrain")


def tune(name: str, parent: str, task: int, **options: Any) -> Node:
    """A fine-tune on the family's ``task``-th task."""
    return Node(name, "finetune", (parent,), "train", {"task": task, **options})


def adapter(name: str, parent: str, task: int, rank: int) -> Node:
    """A LoRA of a rank, merged."""
    return Node(name, "adapter_merged", (parent,), "adapter", {"task": task, "rank": rank})


def tree(levels: int = 4) -> tuple[Node, ...]:
    """Fine-tunes down to ``levels`` below the base, continued pre-training, a frozen part, adapters."""
    chain = [
        tune("a" * n, "a" * (n - 1) or "base", 0 if n == 1 else 2 + n) for n in range(1, levels + 1)
    ]
    return (
        *chain,
        tune("b", "base", 1),
        tune("c", "base", 2),
        tune("ab", "a", 3),
        Node("cpt", "continued_pretrain", ("base",), "continue"),
        tune("cpt_a", "cpt", 5),
        tune("frozen", "base", 6, frozen=True),
        adapter("lora1", "base", 4, 1),
        adapter("lora4", "base", 3, 4),
        adapter("lora16", "b", 5, 16),
    )


def fan() -> tuple[Node, ...]:
    """Checkpoints of one run, and siblings of one task with different seeds, and the model stock of two."""
    run = [
        Node(f"at{n}", "finetune", (f"at{n - 1}" if n > 1 else "base",), "checkpoint",
             {"task": 1, "part": n})
        for n in (1, 2, 3)
    ]  # fmt: skip
    stock = Node(
        "stock", "merge", ("f0", "f1"), "model_stock", neutral=("base",), method="model_stock"
    )
    return (*run, *(tune(f"f{n}", "base", 0) for n in range(4)), stock)


def parents() -> tuple[Node, ...]:
    """Three fine-tunes of the base to be merged or edited."""
    return tuple(tune(name, "base", task) for task, name in enumerate("abc"))


def linear_merges(taste: Taste) -> tuple[Node, ...]:
    """Recipes that are linear with one coefficient per parent for all tensors."""
    third = (1 / 3, 1 / 3, 1 / 3)
    both = (taste.arithmetic, taste.arithmetic)

    def linear(name: str, of: tuple[str, ...], weights: tuple[float, ...]) -> Node:
        return Node(name, "merge", of, "linear", coefficients=weights, exact=True, method="linear")

    return (
        linear("linear", ("a", "b"), taste.pair),
        linear("average", ("a", "b", "c"), third),
        linear("wise", ("base", "c"), (0.5, 0.5)),
        Node("arithmetic", "merge", ("b", "c"), "arithmetic", neutral=("base",),
             coefficients=both, exact=True, method="task_arithmetic"),
        linear("again", ("linear", "c"), (0.5, 0.5)),
        Node("merge_trained", "merge_trained", ("a", "c"), "merge_trained", {"task": 4},
             coefficients=(0.5, 0.5), method="linear"),
    )  # fmt: skip


def masked_merges(taste: Taste) -> tuple[Node, ...]:
    """SLERP, and the recipes that choose among entries."""

    def on_base(name: str, of: tuple[str, ...], *weights: float, **options: Any) -> Node:
        return Node(name, "merge", of, name, options, ("base",), weights, method=name)

    return (
        Node("slerp", "merge", ("a", "c"), "slerp", {"t": taste.arc}, method="slerp",
             coefficients=(1 - taste.arc, taste.arc)),
        on_base("ties", ("a", "b"), density=taste.density, scale=1.0),
        on_base("dare", ("b", "c"), 0.5, 0.5, drop=taste.drop),
        on_base("della", ("a", "b"), drop=taste.drop, spread=0.2),
        on_base("breadcrumbs", ("a", "c"), 0.6, 0.6, density=0.7, top=0.02),
        Node("franken", "frankenmerge", ("a", "b"), "stack", {"map": "halves"}, method="passthrough"),
    )  # fmt: skip


def edits(shape: Shape) -> tuple[Node, ...]:
    """Copies, casts, grids, masks and other changes without training, as far as the architecture has them."""
    made = [
        Node("copy", "copy", ("a",), "keep"),
        Node("wide", "cast", ("b",), "keep", dtype="F32"),
        Node("half", "cast", ("c",), "keep", dtype="F16"),
        Node("renamed", "copy", ("c",), "keep", renamed=True),
        Node("sharded", "copy", ("base",), "keep", shards=3),
        Node("int8", "quantized", ("a",), "int8", method="int8"),
        Node("int4", "quantized", ("b",), "int4", method="int4"),
        Node("half_pruned", "pruned", ("b",), "half_pruned", method="magnitude"),
        Node("two_four", "pruned", ("c",), "two_four", method="2:4"),
        Node("negated", "edited", ("base",), "negate", {"of": "a"}, ("a",), method="negation"),
        Node("noisy", "noise", ("b",), "noise", method="gaussian"),
        tune("copied_on", "copy", 5),
    ]
    if shape.architecture != "mlp":
        made.append(Node("ablated", "edited", ("c",), "ablate", method="abliteration"))
        made.append(
            Node("deep", "frankenmerge", ("b",), "stack", {"map": "deep"}, method="passthrough")
        )
    if shape.architecture == "llama":
        made.append(Node("extended", "vocab_extended", ("base",), "extend"))
        made.append(tune("extended_a", "extended", 4))
    return tuple(made)


def turns(shape: Shape) -> tuple[Node, ...]:
    """The same functions in other bases, and a fine-tune in one of them."""

    def turned(name: str, parent: str) -> Node:
        return Node(name, "permuted", (parent,), name, method=name, turned=True)

    made = [turned("permuted", "a"), tune("permuted_b", "permuted", 1)]
    if shape.architecture != "mlp":
        made.append(turned("residual", "b"))
    if shape.architecture == "llama" and not shape.tied:
        made.append(turned("rotated", "c"))
    return tuple(made)


def strangers() -> tuple[Node, ...]:
    """Of the same shape, and nobody's child: random weights, and a student of outputs only."""
    return (
        Node("random", "random", act="random"),
        Node("student", "distilled", act="distil", teacher="base"),
    )

"""The families of the splits."""

from zoo_lineage.network import Shape
from zoo_lineage.plan import (
    BASE,
    Family,
    Taste,
    edits,
    fan,
    linear_merges,
    masked_merges,
    parents,
    strangers,
    tree,
    turns,
)

SPLITS = ("dev", "practice", "sealed")
"""Rules are chosen on the first two; the third is only reported."""


def families(split: str) -> tuple[Family, ...]:
    """The families of a split."""
    return {"dev": _dev, "practice": _practice, "sealed": _sealed}[split]()


def _dev() -> tuple[Family, ...]:
    taste = Taste()
    llama, vit = Shape("llama"), Shape("vit", inner=128)
    mlp = Shape("mlp", width=128, depth=3)
    merged = (BASE, *parents(), *linear_merges(taste), *masked_merges(taste))
    flat = (BASE, *parents(), *linear_merges(taste), *masked_merges(taste)[:-1])
    few = linear_merges(taste)[:4]
    return (
        Family("llama-tree", llama, (BASE, *tree(), *strangers()), 11),
        Family("llama-merges", llama, merged, 12, "adamw-0.1"),
        Family("llama-edits", llama, (BASE, *parents(), *edits(llama)), 13, "adamw-0", order=2),
        Family("llama-turns", Shape("llama", width=96, inner=192), (BASE, *parents(), *turns(llama)), 14),
        Family("llama-fan", llama, (BASE, *fan()), 15, order=4, missing=True),
        Family("vit-tree", vit, (BASE, *tree(3), *turns(vit)[:1], *turns(vit)[2:]), 21, missing=True),
        Family("vit-merges", vit, (BASE, *parents(), *few, *masked_merges(taste)), 22),
        Family("vit-edits", vit, (BASE, *parents(), *edits(vit), *strangers()), 23, "adamw-0.1"),
        Family("mlp-tree", mlp, (BASE, *tree(), *turns(mlp), *strangers()), 31),
        Family("mlp-merges", mlp, flat, 32, missing=True, order=3),
        Family("mlp-edits", mlp, (BASE, *parents(), *edits(mlp)), 33, "sgd"),
        Family("mlp-fan", mlp, (BASE, *fan()), 34, "adamw-0", order=1, missing=True),
    )  # fmt: skip


def _practice() -> tuple[Family, ...]:
    """What the dev split has little of: optimisers that move every weight as far, and trees under them."""
    taste = Taste((0.55, 0.45), 0.6, 0.35, 0.45, 0.6)
    tied = Shape("llama", inner=160, depth=3, tied=True)
    llama = Shape("llama", width=96, inner=160, depth=3)
    vit, mlp = Shape("vit", width=64, inner=144, depth=4), Shape("mlp", width=144, depth=3)
    deep = Shape("mlp", width=112, depth=4)
    few, some = linear_merges(taste)[:4], fan()[:4]
    return (
        Family("p1-tied-tree-lion", tied, (BASE, *tree(3)), 5001, "lion", 6e-4, 2),
        Family("p2-tied-tree-adam", tied, (BASE, *tree()), 5002, "adamw-0.1", 7e-4, 4),
        Family("p3-llama-fan-turns", llama, (BASE, *parents(), *turns(llama), *some[:3]), 5003, "adamw-0", 7e-4, 1),
        Family("p4-llama-tree-sgd", llama, (BASE, *tree(3)), 5004, "sgd", 8e-4, 0),
        Family("p5-vit-tree-lion", vit, (BASE, *tree(3)), 5005, "lion", 5e-4, 5),
        Family("p6-mlp-tree-lion", deep, (BASE, *tree(3)), 5006, "lion", 6e-4, 1),
        Family("p7-mlp-tree-adam", mlp, (BASE, *tree()), 5007, "adamw-0.5", 6e-4, 3),
        Family("p8-mlp-tree-lion2", mlp, (BASE, *tree(), *turns(mlp)), 5008, "lion", 4e-4, 0),
        Family("p9-llama-tree-lion", llama, (BASE, *tree()), 5009, "lion", 5e-4, 3),
        Family("p10-mlp-fan-lion", mlp, (BASE, *fan()), 5010, "lion", 6e-4, 2, missing=True),
        Family("p11-vit-fan-turns", vit, (BASE, *parents(), *turns(vit)[:1], *some), 5011, "adamw-0.1", 8e-4, 3),
        Family("p12-vit-merges-lion", vit, (BASE, *parents(), *few, *masked_merges(taste)), 5012, "lion", 5e-4, 4,
               missing=True),
        *_lions(),
    )  # fmt: skip


def _lions() -> tuple[Family, ...]:
    """Trees under an optimiser by which children share many entries: four shapes, three each."""
    shapes = ((4, 104), (3, 128), (4, 128), (2, 152))
    found = []
    for at, (depth, width) in enumerate(shapes):
        for turn in range(3):
            n, shape = 3 * at + turn + 1, Shape("mlp", width=width, depth=depth)
            nodes = (BASE, *tree(3 + turn % 2), *turns(shape))
            lr = (3e-4, 5e-4, 6e-4, 8e-4)[(n + turn) % 4]
            found.append(Family(f"p{12 + n}-mlp-lion", shape, nodes, 7000 + n, "lion", lr, (n + turn) % 6, missing=n % 4 == 3))  # fmt: skip
    return tuple(found)


def _sealed() -> tuple[Family, ...]:
    taste = Taste((0.7, 0.3), 0.5, 0.3, 0.4, 0.7)
    llama = Shape("llama", width=80, inner=128, depth=3, heads=5, kv_heads=1)
    tied = Shape("llama", width=64, inner=192, depth=4, tied=True)
    vit = Shape("vit", width=48, inner=160, depth=5, heads=3)
    mlp = Shape("mlp", width=160, depth=2)
    deep = Shape("mlp", width=96, depth=4)
    merged = (BASE, *parents(), *linear_merges(taste), *masked_merges(taste))
    few = linear_merges(taste)[:4]
    flat = masked_merges(taste)[:-1]
    return (
        Family("llama-tree", llama, (BASE, *tree(3)), 1011, "adamw-0.5", 8e-4, 3),
        Family("llama-tied", tied, (BASE, *tree(), *turns(tied)[:1]), 1012, "lion", 5e-4, 1, True),
        Family("llama-merges", llama, merged, 1013, "adamw-0.01", 4e-4, 5),
        Family("llama-edits", tied, (BASE, *parents(), *edits(tied), *strangers()), 1014, "adamw-0.1"),
        Family("llama-turns", llama, (BASE, *parents(), *turns(llama), *fan()[:3]), 1015, order=2),
        Family("vit-tree", vit, (BASE, *tree(), *strangers()), 1021, "sgd", 8e-4, 2),
        Family("vit-merges", vit, (BASE, *parents(), *few, *masked_merges(taste)), 1022, "lion",
               missing=True),
        Family("vit-edits", vit, (BASE, *parents(), *edits(vit)), 1023, "adamw-0.5", order=4),
        Family("vit-fan", vit, (BASE, *fan()), 1024, "adamw-0", order=1, missing=True),
        Family("mlp-tree", deep, (BASE, *tree(3), *turns(deep)), 1031, "lion", order=5),
        Family("mlp-merges", mlp, (BASE, *parents(), *linear_merges(taste), *flat), 1032, "sgd", order=4),
        Family("mlp-edits", mlp, (BASE, *parents(), *edits(mlp), *strangers()), 1033, "adamw-0.1"),
        Family("mlp-fan", deep, (BASE, *fan()), 1034, "adamw-0.5", order=2, missing=True),
    )  # fmt: skip

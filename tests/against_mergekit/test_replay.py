"""Merges that mergekit made: `infer` names the recipe, from the weights alone."""

from pathlib import Path

import pytest
from against_mergekit.recipes import ADD, BASE, REVERSE, SORT

from engine.descent.infer import infer
from registry.catalog import Catalog
from registry.scan import scan


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ties-alike", "ties with density 0.4, weight 1, scope tensor, normalize true, lambda 1"),
        (
            "ties-uneven",
            "ties with density 0.5/0.3/0.4, weight 0.5/0.3/0.2, scope tensor, normalize true, lambda 1",
        ),
        ("breadcrumbs-alike", "breadcrumbs with density 0.6, weight 0.7/0.4/0.25, gamma 0.05"),
    ],
)
def test_the_recipe_is_named(name, said, theirs, mergekit_outputs, tmp_path):
    assert theirs(name)
    catalog = Catalog(tmp_path / "catalog.duckdb")
    parents = [mergekit_outputs / "distinct" / Path(p).name for p in (BASE, ADD, REVERSE, SORT)]
    scan(catalog, [str(p) for p in (*parents, mergekit_outputs / name)])
    ids = {row["root"]: row["model_id"] for row in catalog.rows("select root, model_id from store.address")}  # fmt: skip
    found = infer(catalog, n_scalars=None, claims=False)
    made = [e for e in found.edges if e.child == ids[str(mergekit_outputs / name)]]
    assert {(e.parent, e.role) for e in made} == {
        (ids[str(p)], "base" if p is parents[0] else "model") for p in parents
    }
    (kind,) = {e.kind for e in made}
    assert (kind.statistic, kind.value > 0.999) == ("match", True)
    assert _in_order(kind.detail) == said


def _in_order(detail):
    """The recipe of a detail; where its numbers differ by model, those of arithmetic, reverse and sort."""
    said, _, names = detail.partition(", done again")[0].partition(" (of ")
    if not names:
        return said
    order = [names.rstrip(")").split(", ").index(Path(p).name) for p in (ADD, REVERSE, SORT)]

    def turned(values):
        parts = values.split("/")
        return "/".join(parts[i] for i in order) if len(parts) > 1 else values

    return " ".join(turned(word.rstrip(",")) + "," * word.endswith(",") for word in said.split(" "))

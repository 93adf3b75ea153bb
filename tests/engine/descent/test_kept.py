"""What is kept between inferences changes none: whatever came, went or was interrupted, edges are those from nothing."""

from contextlib import suppress

import numpy as np
import pytest
from descent_patches import sketch_of
from descent_trees import base, permuted, rounded, stacked_as, summed, tuned

from engine.descent import component, recall
from engine.descent import infer as inferring
from engine.descent.infer import infer
from engine.descent.shelf import put, spec_of
from registry.catalog import Catalog, Columns, now
from registry.errors import CatalogChanged, Interrupted, NotHomologous
from registry.records import Edge, Model

SIZES = (2048, 1024)
SAID = [("one", "two"), ("later", "one"), ("kin", "kin2"), ("called", "base"), ("copy", "base")]


def ties(b, one, other):
    """Entries of one child, of the other, or of neither."""
    rng = np.random.default_rng(0)
    return {name: rounded(np.choose(rng.integers(0, 3, old.shape), [old, one[name], other[name]])) for name, old in b.items()}  # fmt: skip


def made():
    """Models by id: two families, a merge of both, twins, other names, depths and bases, and one that is broken."""
    b, other, deep = (base(seed, width=32, layers=n) for seed, n in ((1, 2), (2, 2), (6, 3)))
    one, two, three = (tuned(b, seed) for seed in (3, 4, 5))
    tokens, gains = "model.embed_tokens.weight", "model.layers.0.norm.weight"
    return {
        "base": b, "one": one, "two": two, "three": three, "later": tuned(one, 7), "last": tuned(tuned(one, 7), 8),
        "sum": summed((0.6, one), (0.4, two)), "ties": ties(b, one, three), "copy": one,
        "called": {f"t.{i}": values for i, (_, values) in enumerate(sorted(tuned(two, 9).items()))},
        "other": other, "kin": tuned(other, 10), "kin2": tuned(other, 11), "kin3": tuned(other, 12),
        "half": summed((0.5, b), (0.5, other)), "deep": deep, "stacked": stacked_as(deep, [0, 1, 1, 2]),
        "longer": b | {tokens: np.vstack([b[tokens]] * 2)[:100]}, "nothing": {k: 0 * v for k, v in b.items()},
        "turned": permuted(base(13), 14), "straight": base(13), "broken": b | {gains: b[gains] * np.nan},
    }  # fmt: skip


def sketched(name, model, size):
    """A sketch with what stays of its first matrix in another basis."""
    first = next(iter(model.values()))[:32].astype(np.float64)
    invariants = {"rows": (first @ first.T)[np.triu_indices(32)].astype(np.float32)}
    return sketch_of(model, name, dtype="BF16", n_scalars=size, invariants=invariants)


@pytest.fixture(scope="module")
def sketches():
    """Of each model its sketches, by size."""
    return {k: {n: sketched(k, v, n) for n in SIZES} for k, v in made().items()}


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """The bytes of a catalog that knows nothing."""
    catalog = Catalog(tmp_path_factory.mktemp("empty") / "c.duckdb")
    with catalog.write():
        pass
    return catalog.path.read_bytes()


class Bench:
    """A catalog in which models come and go.

    Attributes:
        catalog: it.
        sketches: of each model that there may be.
        here: models that are in the catalog.
    """

    def __init__(self, path, empty, sketches):
        path.write_bytes(empty)
        self.catalog, self.sketches, self.here = Catalog(path), sketches, set()

    def come(self, names):
        """Put models into the catalog."""
        columns = Columns()
        columns.add(
            Model(id=name, kind="model", status="full", digest_name="made-up", signature="s", dtype="BF16", n_params=1,
                  n_bytes=2, n_tensors=1, created_at=now())
            for name in names
        )  # fmt: skip
        columns.add(
            Edge(child=child, parent=parent, relation="finetune", role="parent", status="declared", coefficient=None,
                 confidence=1.0, run_id=None, created_at=now())
            for child, parent in SAID if child in names
        )  # fmt: skip
        with self.catalog.write() as transaction:
            columns.insert(transaction, "error")
        for size in SIZES:
            put(self.catalog, [self.sketches[name][size] for name in names], spec_of(size))
        self.here |= set(names)

    def go(self, names):
        """Drop models, and what was said of them."""
        with self.catalog.write() as transaction:
            for table, key in (("model", "id"), ("sketch", "model_id"), ("edge", "child")):
                transaction.execute(f"delete from store.{table} where {key} in (select store.each(?))", [list(names)])  # fmt: skip
        self.here -= set(names)

    def written(self, size):
        """All that inferring wrote, but when and by which numbers; of what is kept, that of one size."""
        queries = (
            "select * exclude (created_at, child_number, parent_number) from store.edge where status = 'inferred'",
            "select * from store.evidence where status = 'inferred'",
            "select * exclude (created_at, number) from store.model where status = 'latent'",
            "select * exclude inferred_at from store.component",
            "select * exclude inferred_at from store.clans",
        )
        kept = [self.catalog.rows(f"{sql} order by all") for sql in queries]
        return [*kept[:3], *([r for r in rows if r["spec"] == spec_of(size)] for rows in kept[3:])]


def inferred(catalog, size, claims):
    """All that infer says but how long it took; None where there are too few models."""
    try:
        found = infer(catalog, n_scalars=size, claims=claims)
    except NotHomologous:
        return None
    return [found.edges, found.unaligned, found.n_models, found.contradictions, found.problems]


def interrupted(bench, rng, monkeypatch, size):
    """Ctrl-C: in the middle of a component, or of the one write at the end."""
    where, name = ((component, "ancestry"), (inferring, "remember_clans"))[int(rng.integers(2))]

    def stop(*args):
        del args
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(where, name, stop)
        with suppress(Interrupted):
            inferred(bench.catalog, size, claims=True)


def two_at_once(bench, rng, monkeypatch, size):
    """Another process infers, and models come, while this one has read what is kept."""
    forest = inferring.forest

    def slow(*args):
        with monkeypatch.context() as inner:
            inner.setattr(inferring, "forest", forest)
            bench.come(some(rng, bench.sketches.keys() - bench.here, 2))
            inferred(bench.catalog, size, claims=bool(rng.integers(2)))
        return forest(*args)

    with monkeypatch.context() as patch:
        patch.setattr(inferring, "forest", slow)
        inferred(bench.catalog, size, claims=True)


def other_rules(bench, rng, monkeypatch, size):
    """An earlier version infers, whose rules are others."""
    del rng
    with monkeypatch.context() as patch:
        for module in (component, recall):
            patch.setattr(module, "rules", lambda: "earlier")
        inferred(bench.catalog, size, claims=True)


def gone(bench, rng, monkeypatch, size):
    """A few models are gone; some may come again."""
    del monkeypatch, size
    bench.go(some(rng, bench.here, 3))


def some(rng, names, most):
    """A few of some names, in any order."""
    names = sorted(names)
    return [str(n) for n in rng.permutation(names)[: rng.integers(0, most + 1)]]


EVENTS = (interrupted, two_at_once, other_rules, gone)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_came_and_went_it_is_as_from_nothing(seed, tmp_path, empty, sketches, monkeypatch):
    rng = np.random.default_rng(seed)
    bench = Bench(tmp_path / "kept.duckdb", empty, sketches)
    bench.come(some(rng, sketches, 10))
    for step in range(3):
        size, claims = SIZES[int(rng.integers(2))], bool(rng.integers(2))
        for _ in range(int(rng.integers(3))):
            EVENTS[int(rng.integers(len(EVENTS)))](bench, rng, monkeypatch, size)
        bench.come(some(rng, sketches.keys() - bench.here, 4))
        found = inferred(bench.catalog, size, claims)
        fresh = Bench(tmp_path / f"fresh{step}.duckdb", empty, sketches)
        fresh.come(sorted(bench.here))
        assert found == inferred(fresh.catalog, size, claims)
        if found is not None:
            assert bench.written(size) == fresh.written(size)


@pytest.mark.parametrize("before", [True, False])
def test_models_that_another_process_drops_meanwhile_are_an_error_and_leave_no_edge(
    before, tmp_path, empty, sketches, monkeypatch
):
    bench, forest = Bench(tmp_path / "c.duckdb", empty, sketches), inferring.forest
    bench.come(["base", "one", "two"])
    first = inferred(bench.catalog, SIZES[0], claims=True)
    edges = bench.written(SIZES[0])[:3]
    bench.come(["three"])

    def slow(*args):
        found = None if before else forest(*args)
        bench.go(["three"])
        return found or forest(*args)

    with monkeypatch.context() as patch:
        patch.setattr(inferring, "forest", slow)
        with pytest.raises(CatalogChanged, match="three") as caught:
            inferred(bench.catalog, SIZES[0], claims=True)
    assert caught.value.hint == "reg infer, once nothing else writes there"
    assert bench.written(SIZES[0])[:3] == edges
    assert inferred(bench.catalog, SIZES[0], claims=True) == first

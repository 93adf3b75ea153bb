"""The views: statistics of deltas as the engine defines them, and every kind of conflict."""

import json
import math

import numpy as np
import pytest
import torch
from conftest import save_model
from safetensors.numpy import save_file

from engine.delta import Accumulators, accumulate, derived
from engine.stats import measure
from registry.catalog import Catalog, now
from registry.scan import scan

COLUMNS = {"min": "min_delta", "max": "max_delta", "mean": "mean_delta"}
FROM_HISTOGRAM = ("abs_p", "top")


def expected(found):
    """The engine's statistics by the views' columns, those of the histogram left out."""
    return {
        COLUMNS.get(name, name): value
        for name, value in derived(found).items()
        if not name.startswith(FROM_HISTOGRAM)
    }


def cosine(found):
    """Between the base's and the child's weights."""
    child = math.sqrt(max(0.0, found.base_sum_sq + 2 * found.base_dot + found.sum_sq))
    size = math.sqrt(found.base_sum_sq) * child
    return min(1.0, max(-1.0, (found.base_sum_sq + found.base_dot) / size)) if size else None


def same(row, found):
    wanted = expected(found) | {"cosine": cosine(found), "n_params": found.n}
    close = {
        k: None if v is None else pytest.approx(v, rel=1e-7, abs=1e-300) for k, v in wanted.items()
    }
    assert {name: row[name] for name in wanted} == close


# --- Real checkpoints


@pytest.fixture(scope="module")
def measured(family, tmp_path_factory, _empty_catalog):
    catalog = Catalog(tmp_path_factory.mktemp("measured") / "c.duckdb")
    catalog.path.write_bytes(_empty_catalog)
    scan(catalog, [str(family.root)])
    for child in ("chat", "cpt"):
        measure(catalog, catalog.find(child), catalog.find("base"), spectral=True, jobs=1)
    return catalog


@pytest.mark.parametrize("child", ["chat", "cpt"])
def test_deltas_layers_and_summary_are_the_engines_numbers(family, measured, child):
    base, new = family.weights["base"], family.weights[child]
    found = {name: accumulate(base[name], new[name]) for name in base}
    rows = measured.rows("select * from deltas where child = ?", [child])
    assert {r["tensor"] for r in rows} == set(found)
    for row in rows:
        same(row, found[row["tensor"]])
        assert row["abs_p50"] == pytest.approx(derived(found[row["tensor"]])["abs_p50"])
        assert row["top1_mass_l2"] == pytest.approx(derived(found[row["tensor"]])["top1_mass_l2"])
    for row in measured.rows("select * from layers where child = ?", [child]):
        group = [
            r["tensor"] for r in rows if (r["layer"], r["module"]) == (row["layer"], row["module"])
        ]
        assert row["n_tensors"] == len(group)
        same(row, sum((found[name] for name in group), Accumulators()))
    (row,) = measured.rows("select * from delta_summary where child = ?", [child])
    whole = sum(found.values(), Accumulators())
    same(row, whole)
    for name, value in derived(whole).items():
        if name.startswith(FROM_HISTOGRAM):
            assert row[name] == pytest.approx(value)
    assert (row["n_tensors"], row["scope"], row["base"]) == (len(found), "full", "base")


def test_spectra_stand_beside_the_deltas_of_matrices(measured):
    rows = measured.rows("select * from deltas where child = 'chat'")
    with_spectrum = {r["tensor"] for r in rows if r["sigma_max"] is not None}
    assert with_spectrum == {r["tensor"] for r in rows if len(json.loads(r["child_shape"])) == 2}
    assert all(1 <= r["stable_rank"] <= 16.001 for r in rows if r["sigma_max"] is not None)


def test_the_known_task_vectors_have_their_known_size(family, measured):
    (row,) = measured.rows("select * from delta_summary where child = 'cpt'")
    delta = torch.cat([d.double().flatten() for d in family.deltas["cpt"].values()])
    assert row["l2"] == pytest.approx(float(delta.norm()), rel=1e-9)
    assert row["max_abs"] == pytest.approx(float(delta.abs().max()), rel=1e-9)
    assert row["within_01"] == pytest.approx(float((delta.abs() <= 0.01).double().mean()), abs=1e-3)


# --- Numbers at the edge


def of(base, child, dtype=torch.float64):
    return accumulate(torch.tensor(base, dtype=dtype), torch.tensor(child, dtype=dtype))


def at_random():
    chance = np.random.default_rng(3)
    for i in range(60):
        n = int(chance.integers(1, 40))
        base = chance.normal(size=n) * 10.0 ** chance.integers(-8, 8)
        size = 10.0 ** chance.integers(-12, 2)
        delta = chance.normal(size=n) * size * np.abs(base).max()
        delta[chance.random(n) < 0.3] = 0.0
        yield f"random {i}", of(base, base + delta)


EDGES = {
    "no elements": of([], []),
    "nothing changed": of([1.0, -2.0], [1.0, -2.0]),
    "a base of zeros": of([0.0, 0.0], [1.0, 2.0]),
    "all zeros": of([0.0, 0.0], [0.0, 0.0]),
    "a child of zeros": of([1.0, 2.0], [0.0, 0.0]),
    "the opposite": of([1.0, 2.0], [-1.0, -2.0]),
    "a constant": of([1.0, 2.0, 3.0], [1.5, 2.5, 3.5]),
    "almost a constant": of([0.0] * 4, [0.99, 1.01, 1.0, 0.98]),
    "closer to a constant than can be told": of([0.0] * 3, [1.0001, 0.9999, 1.0]),
    "one element": of([2.0], [3.0]),
    "only nonsense": of([float("nan"), 1.0], [1.0, float("inf")]),
    "some nonsense": of([float("nan"), 1.0, 2.0], [1.0, 1.5, 1.0]),
    "huge": of([1e30, -1e30, 2e30], [2e30, 1e30, -3e30]),
    "huge beside tiny": of([1e38, 1e-38], [-1e38, 1e-38]),
    "tiny": of([1e-30, 2e-30], [3e-30, -1e-30]),
    "subnormal": of([5e-324, 1.0], [1e-323, 1.0]),
    "so small that squares vanish": of([1e-200, -1e-200], [2e-200, 1e-200]),
    "everything above 0.03": of([0.0] * 4, [1.0, -1.0, 0.5, 0.04]),
    **dict(at_random()),
}


def put(catalog, found):
    """One pair with one delta row for each accumulator, as `reg stats` would write them."""
    counts = dict.fromkeys(
        ("n_aligned", "n_cropped", "n_only_child", "n_only_base", "n_mismatched", "n_uncounted"), 0
    )
    unknown = dict.fromkeys(c for c in _columns(catalog, "pair") if c.startswith(FROM_HISTOGRAM))
    pair = {
        "child": "c", "base": "b", "version": "1", "scope": "full", **counts, "read_bytes": 0,
        "seconds": 0.0, "measured_at": now(), **unknown,
    }  # fmt: skip
    words = {"sum": "sum_delta", "min": "min_delta", "max": "max_delta"}
    rows, empty = [], dict.fromkeys(_columns(catalog, "delta"))
    for i, (name, acc) in enumerate(found.items()):
        row = empty | {
            "child": "c",
            "base": "b",
            "tensor": name,
            "status": "aligned",
            "module": "other",
        }
        row["layer"] = i
        if acc is not None:
            row |= {words.get(k, k): v for k, v in acc.as_row().items()}
        rows.append(row)
    with catalog.write() as transaction:
        for id_ in ("c", "b"):
            transaction.execute(
                "insert into store.model (id, kind, status, digest_name, created_at) values (?, 'model', 'full', 'd', now())",
                [id_],
            )
        transaction.insert("pair", {k: [v] for k, v in pair.items()})
        transaction.insert("delta", {k: [r[k] for r in rows] for k in rows[0]})


def _columns(catalog, table):
    rows = catalog.rows(
        "select column_name as c from duckdb_columns() where schema_name = 'store' "
        "and table_name = ? order by column_index",
        [table],
    )
    return [r["c"] for r in rows]


@pytest.fixture(scope="module")
def edges(tmp_path_factory, _empty_catalog):
    """Rows of the three views over one pair of all edges and a tensor that was not compared."""
    catalog = Catalog(tmp_path_factory.mktemp("edges") / "c.duckdb")
    catalog.path.write_bytes(_empty_catalog)
    put(catalog, {**EDGES, "not compared": None})
    return {
        "deltas": {r["tensor"]: r for r in catalog.rows("select * from deltas")},
        "layers": {r["layer"]: r for r in catalog.rows("select * from layers")},
        "delta_summary": catalog.rows("select * from delta_summary"),
    }


@pytest.mark.parametrize("name", EDGES)
def test_a_statistic_is_null_where_the_engine_says_none(edges, name):
    rows = edges["deltas"][name], edges["layers"][list(EDGES).index(name)]
    for row in rows:
        same(row, EDGES[name])
        assert not [k for k, v in row.items() if isinstance(v, float) and not math.isfinite(v)]


def test_what_was_not_compared_has_no_numbers(edges):
    known = {name for name, value in edges["deltas"]["not compared"].items() if value is not None}
    assert known == {"child_id", "base_id", "child", "base", "tensor", "status", "layer", "module"}
    assert len(edges["layers"]) == len(EDGES)


def test_the_summary_pools_all_tensors(edges):
    (row,) = edges["delta_summary"]
    same(row, sum(EDGES.values(), Accumulators()))
    assert not [k for k, v in row.items() if isinstance(v, float) and not math.isfinite(v)]


def test_a_pair_without_one_comparable_tensor_has_a_summary_of_nulls(catalog):
    put(catalog, {"x": None})
    (row,) = catalog.rows("select * from delta_summary")
    assert row["relative_l2"] is None
    assert row["cosine"] is None
    assert row["n_params"] is None


# --- Conflicts

COUNTER = iter(range(1, 1_000_000))


def model(folder, card="", shape=(2, 3), **config):
    folder.mkdir(parents=True)
    weights = np.full(shape, float(next(COUNTER)), np.float32)
    save_file({"w": weights}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    if card:
        (folder / "README.md").write_text(f"---\n{card}\n---\n")
    return folder


def conflicts(catalog):
    rows = catalog.rows("select kind, child, parent, detail from conflicts order by all")
    return [(r["kind"], r["child"], r["parent"]) for r in rows]


def test_a_family_in_harmony_has_no_conflict(family, catalog):
    scan(catalog, [str(family.base), str(family.chat), str(family.math)])
    assert conflicts(catalog) == []


def test_sources_that_name_different_bases_disagree(tmp_path, catalog):
    model(tmp_path / "a")
    model(tmp_path / "b")
    model(tmp_path / "chat", "base_model: a", _name_or_path="b")
    scan(catalog, [str(tmp_path)])
    assert conflicts(catalog) == [
        ("claims_disagree", "chat", "a"),
        ("claims_disagree", "chat", "b"),
    ]


def test_a_merge_of_two_is_no_disagreement(tmp_path, catalog):
    model(tmp_path / "a")
    model(tmp_path / "b")
    model(tmp_path / "merged", "base_model: [a, b]", _name_or_path="a")
    scan(catalog, [str(tmp_path)])
    assert conflicts(catalog) == []


def test_copies_of_a_model_whose_cards_differ_disagree(tmp_path, catalog):
    for name in ("a", "b"):
        model(tmp_path / name)
    first = model(tmp_path / "x" / "chat", "base_model: a")
    second = model(tmp_path / "y" / "chat", "base_model: b")
    (second / "model.safetensors").write_bytes((first / "model.safetensors").read_bytes())
    scan(catalog, [str(tmp_path)])
    assert {kind for kind, _, _ in conflicts(catalog)} == {"claims_disagree"}


def test_a_claim_that_the_weights_refute_is_a_conflict(family, tmp_path, catalog):
    save_model(tmp_path / "liar", dict(family.weights["stranger"]), card="base_model: base")
    scan(catalog, [str(family.base), str(tmp_path / "liar")])
    measure(catalog, catalog.find("liar"), catalog.find("base"), jobs=1)
    assert ("claim_refuted", "liar", "base") in conflicts(catalog)
    (row,) = catalog.rows("select detail from conflicts where kind = 'claim_refuted'")
    assert "cosine -0.0" in row["detail"]
    (row,) = catalog.rows("select cosine, cosine_matrices from delta_summary")
    assert row["cosine"] > 0.5 > abs(row["cosine_matrices"]), "norms alone look like kin"


def test_a_fine_tune_of_other_shapes_is_a_conflict(tmp_path, catalog):
    model(tmp_path / "base", shape=(5, 5))
    model(tmp_path / "chat", "base_model: base")
    scan(catalog, [str(tmp_path)])
    assert conflicts(catalog) == [("shapes_differ", "chat", "base")]


def test_models_that_claim_each_other_are_a_conflict(tmp_path, catalog):
    model(tmp_path / "a", "base_model: b")
    model(tmp_path / "b", "base_model: a")
    scan(catalog, [str(tmp_path)])
    ((kind, child, parent),) = conflicts(catalog)
    assert kind == "parents_of_each_other"
    assert {child, parent} == {"a", "b"}


@pytest.mark.parametrize("says", ["", "license: mit\n"])
def test_a_child_that_drops_the_licence_is_a_conflict_once(tmp_path, catalog, says):
    model(tmp_path / "base", "license: llama3")
    model(tmp_path / "chat", f"{says}base_model: base")
    scan(catalog, [str(tmp_path)])
    with catalog.write() as transaction:  # the same edge from another origin
        transaction.execute(
            "insert into store.edge by name select child, parent, relation, role, 'measured' as status, coefficient, "
            "confidence, run_id, created_at from store.edge"
        )
    assert conflicts(catalog) == [("license_dropped", "chat", "base")]


def inferred(catalog, child, parents, relation):
    """Write inferred edges between models, by name, as `reg infer` does, and a sketch of each."""
    ids = {row["name"]: row["id"] for row in catalog.rows("select id, name from models")}
    with catalog.write() as transaction:
        for parent in parents:
            transaction.execute(
                "insert into store.edge values (?, ?, ?, 'parent', 'inferred', null, 0.9, null, now(), null, null)",
                [ids[child], ids[parent], relation],
            )
        transaction.execute(
            "insert or ignore into store.sketch select id, 'patches-1/1', 'F32', '[]', 0, ''::blob, '{}', 0, now() "
            "from store.model"
        )


def test_a_claim_that_inference_contradicts_is_a_conflict_and_says_what_is_shown(tmp_path, catalog):
    for name, says in {"base": "", "mid": "", "liar": "base", "odd": "mid"}.items():
        model(tmp_path / name, "license: mit" + (f"\nbase_model: {says}" if says else ""))
    scan(catalog, [str(tmp_path)])
    inferred(catalog, "liar", ["mid"], "finetune")
    with catalog.write() as transaction:
        transaction.execute(
            "insert into store.evidence select e.child, e.child, e.parent, e.relation, 'inferred', "
            "if(p.name = 'mid', 'strangers', 'descent'), '1', 'claim_probability', 0.1, 'sampled', 'so it is' "
            "from store.edge e join models p on p.id = e.parent where e.status = 'declared'"
        )
    rows = catalog.rows("select kind, child, parent, detail from conflicts order by child")
    said = "declared a finetune of it, but so it is"
    assert [tuple(row.values()) for row in rows] == [
        ("claim_contradicted", "liar", "base", f"{said}: finetune of mid (confidence 0.90)"),
        ("claim_refuted", "odd", "mid", said),
    ]  # fmt: skip


def test_a_merge_that_nobody_declares_is_a_conflict(tmp_path, catalog):
    for name in ("a", "b", "merged"):
        model(tmp_path / name, "license: mit")
    scan(catalog, [str(tmp_path)])
    inferred(catalog, "merged", ["a", "b"], "merge")
    assert conflicts(catalog) == [
        ("parent_undeclared", "merged", "a"), ("parent_undeclared", "merged", "b"),
    ]  # fmt: skip


def test_every_kind_of_conflict_has_a_test(catalog):
    (row,) = catalog.rows(
        "select comment from duckdb_columns() where table_name = 'conflicts' and column_name = 'kind'"
    )
    kinds = row["comment"].replace(" or ", ", ").split(", ")
    assert sorted(kinds) == [
        "claim_contradicted", "claim_refuted", "claims_disagree", "license_dropped", "parent_undeclared",
        "parents_of_each_other", "shapes_differ",
    ]  # fmt: skip


# --- The other views


def test_the_first_address_decides_and_the_strongest_edge_tells(tmp_path, catalog):
    model(tmp_path / "base")
    model(tmp_path / "chat", "base_model: base\nlicense: mit")
    scan(catalog, [str(tmp_path)])
    with catalog.write() as transaction:
        transaction.execute(
            "insert into store.edge by name select child, parent, 'continued_pretrain' as relation, role, 'measured' as status, "
            "coefficient, confidence, run_id, created_at from store.edge"
        )
    (row,) = catalog.rows("select * from models where name = 'chat'")
    assert (row["relation"], row["base"], row["parents"]) == (
        "continued_pretrain",
        "base",
        ["base"],
    )
    assert (row["license"], row["n_scores"], row["scores"]) == ("mit", 0, None)


def test_files_have_the_time_of_their_last_change(tmp_path, catalog):
    file = model(tmp_path / "m") / "config.json"
    scan(catalog, [str(tmp_path)])
    (row,) = catalog.rows("select modified_at from files where path = 'config.json'")
    assert row["modified_at"].timestamp() is not None
    assert (
        abs(row["modified_at"].replace(tzinfo=now().tzinfo).timestamp() - file.stat().st_mtime) < 1
    )

"""Inferring: from files to edges in the catalog, beside what is claimed."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from descent_trees import base, saved, tuned
from scanned import orphans

from engine.descent.infer import infer
from registry.catalog import Catalog
from registry.errors import Interrupted, NotHomologous
from registry.scan import scan

ZOO = Path(__file__).parents[3] / "data" / "zoo"

TRAINED = [
    ("arithmetic", "base", "finetune"),
    ("arithmetic-plus", "arithmetic", "finetune"),
    ("prose", "base", "continued_pretrain"),
    ("reverse", "base", "finetune"),
    ("sort", "base", "finetune"),
]


def inferred(catalog):
    """Inferred edges as (child, parent, relation), by name; a latent parent is "latent"."""
    names = {r["id"]: r["name"] for r in catalog.rows("select id, name from models")}
    rows = catalog.rows("select child, parent, relation from store.edge where status = 'inferred'")
    latent = {r["id"] for r in catalog.rows("select id from store.model where status = 'latent'")}
    return sorted(
        (
            names[r["child"]],
            "latent" if r["parent"] in latent else names[r["parent"]],
            r["relation"],
        )
        for r in rows
    )


def everything(catalog):
    tables = ("edge", "evidence", "component", "model")
    return [catalog.rows(f"select * from store.{table} order by all") for table in tables]


def other_edges(catalog):
    return catalog.rows("select * from store.edge where status <> 'inferred' order by all")


@pytest.mark.parametrize("n_scalars", [32768, 8192])
def test_the_family_that_was_trained_is_found_from_its_weights(catalog, n_scalars):
    scan(catalog, [str(ZOO)])
    found = infer(catalog, n_scalars=n_scalars)
    assert inferred(catalog) == TRAINED
    assert (found.n_models, found.n_latent, found.problems) == (7, 0, {})
    assert (found.scope, found.unaligned) == ("sampled", ())
    assert found.read_bytes > 0
    why = catalog.rows("select * from store.evidence where status = 'inferred'")
    assert len(why) == 2 * len(TRAINED)  # of each edge its kind, and its direction
    told = [row["value"] for row in why if row["statistic"] == "direction"]
    assert len(told) == len(TRAINED)
    assert sum(told) > 0  # one may be against the others
    assert {row["method"] for row in why} == {"descent"}
    assert {row["scope"] for row in why} == {"sampled"}


@pytest.fixture
def folder(tmp_path, catalog):
    """A base and three children, one of which says where it comes from."""
    b = base(1)
    saved(tmp_path / "models" / "b", b)
    for seed, card in ((2, "base_model: b\nbase_model_relation: finetune"), (3, ""), (4, "")):
        saved(tmp_path / "models" / f"m{seed}", tuned(b, seed), card=card)
    scan(catalog, [str(tmp_path / "models")])
    return tmp_path / "models"


STAR = [("m2", "b", "finetune"), ("m3", "b", "finetune"), ("m4", "b", "finetune")]


def test_whole_models_give_the_same_edges(folder, catalog):
    assert infer(catalog, n_scalars=None).scope == "full"
    assert inferred(catalog) == STAR
    assert catalog.rows("select distinct scope from store.evidence where status = 'inferred'") == [
        {"scope": "full"}
    ]


def test_models_too_large_to_compare_whole_are_sampled_and_their_edges_proved(folder, catalog):
    found = infer(catalog, n_scalars=None, whole_bytes=1)
    assert inferred(catalog) == STAR
    assert found.scope == "full"
    assert {edge.scope for edge in found.edges} == {"full"}
    assert all("over all" in edge.kind.detail for edge in found.edges)
    scopes = catalog.rows("select statistic, scope from store.evidence where status = 'inferred'")
    assert {tuple(row.values()) for row in scopes} == {
        ("relative_l2", "full"), ("direction", "sampled"),
    }  # fmt: skip
    whole = infer(catalog, n_scalars=None)
    assert [replace(e, confidence=0, direction=0) for e in whole.edges] == [
        replace(e, confidence=0, direction=0) for e in found.edges
    ]


def test_without_the_weights_it_is_inferred_again(folder, catalog):
    first = infer(catalog)
    shutil.rmtree(folder)
    second = infer(catalog)
    assert second.edges == first.edges
    assert (second.read_bytes, second.problems) == (first.read_bytes, {})
    assert inferred(catalog) == STAR


class Stopping:
    """Progress that meets Ctrl-C after some steps."""

    def __init__(self, after):
        self.after = after

    def start(self, what, total_bytes):
        del what, total_bytes

    def advance(self, n_bytes):
        self.after -= n_bytes
        if self.after == 0:
            raise KeyboardInterrupt


def test_who_stops_it_finds_what_was_inferred_before_and_the_sketches_that_were_read(
    folder, catalog
):
    infer(catalog, n_scalars=2048)
    before = everything(catalog)
    for after, n_kept in ((2, 2), (3, 4)):  # in the middle of the sketches, then of the proofs
        with pytest.raises(Interrupted, match="holds what was inferred before, and the sketches"):
            infer(catalog, n_scalars=None, whole_bytes=1, progress=Stopping(after))
        assert everything(catalog) == before
        kept = catalog.rows("select count(*) as n from store.sketch where spec like '%/32768'")
        assert kept == [{"n": n_kept}]
    assert orphans(catalog) == []
    assert {e.scope for e in infer(catalog, n_scalars=None, whole_bytes=1).edges} == {"full"}


def test_what_was_inferred_is_replaced_and_all_else_stays(folder, catalog):
    (declared,) = before = other_edges(catalog)
    ids = {r["name"]: r["id"] for r in catalog.rows("select id, name from models")}
    row = declared | {"child": ids["m3"], "parent": ids["m4"], "relation": "merge", "role": "model"}
    with catalog.write() as transaction:
        for status in ("recorded", "inferred"):
            given = row | {"status": status}
            transaction.execute(
                f"insert into store.edge ({', '.join(given)}) values ({', '.join('?' * len(given))})",
                list(given.values()),
            )
    before = other_edges(catalog)
    assert [r["status"] for r in before if r["relation"] == "merge"] == ["recorded"]
    for _ in range(2):
        infer(catalog)
        assert inferred(catalog) == STAR
        assert other_edges(catalog) == before
    assert orphans(catalog) == []


def written(catalog):
    """All that inferring writes, but when, and the numbers, which are given in the order of coming."""
    return [
        catalog.rows(f"select * exclude ({when}) from store.{table} {where} order by all")
        for table, where, when in (
            ("edge", "where status = 'inferred'", "created_at, child_number, parent_number"),
            ("evidence", "where status = 'inferred'", "id"),
            ("model", "where status = 'latent'", "created_at, number"),
            ("component", "", "inferred_at"),
            ("clans", "", "inferred_at"),
        )
    ]


def test_models_that_come_later_give_what_all_at_once_give(folder, tmp_path, catalog):
    stranger = base(5)
    saved(folder / "other" / "s", stranger)
    scan(catalog, [str(folder)])
    infer(catalog)
    first = catalog.rows("select id, inferred_at from store.component")
    for seed in (6, 7):
        saved(folder / "other" / f"s{seed}", tuned(stranger, seed))
    scan(catalog, [str(folder)])
    found = infer(catalog)
    second = catalog.rows("select id, inferred_at from store.component")
    assert len([row for row in first if row in second]) == 1  # of the others nothing changed
    fresh = Catalog(tmp_path / "fresh.duckdb")
    scan(fresh, [str(folder)])
    assert infer(fresh).edges == found.edges
    assert written(fresh) == written(catalog)
    assert len(written(fresh)[0]) == 5


def latent_ids(catalog):
    return catalog.rows("select id from store.model where status = 'latent' order by id")


def test_a_latent_parent_keeps_its_id_and_scanning_keeps_it(tmp_path, catalog):
    b = base(1)
    for seed in (2, 3, 4, 5):
        saved(tmp_path / "models" / f"m{seed}", tuned(b, seed))
    scan(catalog, [str(tmp_path / "models")])
    assert infer(catalog).n_latent == 1
    first = latent_ids(catalog)
    siblings = [(f"m{seed}", "latent", "finetune") for seed in (2, 3, 4, 5)]
    assert inferred(catalog) == siblings
    assert len(first) == 1
    scan(catalog, [str(tmp_path / "models")])
    assert latent_ids(catalog) == first
    assert inferred(catalog) == siblings
    infer(catalog)
    assert latent_ids(catalog) == first
    saved(tmp_path / "models" / "b", b)
    scan(catalog, [str(tmp_path / "models")])
    infer(catalog)
    assert latent_ids(catalog) == []
    assert inferred(catalog) == [(f"m{seed}", "b", "finetune") for seed in (2, 3, 4, 5)]
    assert orphans(catalog) == []


def test_claims_are_held_against_the_weights_and_may_be_left_out(tmp_path, catalog):
    lost = base(1)  # to its two children no direction leads
    saved(tmp_path / "m" / "b", tuned(lost, 2))
    saved(tmp_path / "m" / "near", tuned(lost, 3), card="base_model: b")
    saved(tmp_path / "m" / "alone", base(7), card="base_model: b")
    scan(catalog, [str(tmp_path / "m")])
    heard = infer(catalog)
    assert [(row[0], row[1]) for row in inferred(catalog)] == [("near", "b")]
    (wrong,) = heard.contradictions
    assert wrong.strangers
    kinds = [
        tuple(r.values())
        for r in catalog.rows("select kind, child, parent from conflicts where kind like 'claim%'")
    ]
    assert kinds == [("claim_refuted", "alone", "b")]
    (other,) = infer(catalog, claims=False).edges
    assert other.confidence != heard.edges[0].confidence
    assert (
        len(catalog.rows("select id from store.evidence where statistic = 'claim_probability'"))
        == 1
    )


def test_one_model_is_too_few(tmp_path, catalog):
    with pytest.raises(NotHomologous, match="0 of its models") as caught:
        infer(catalog)
    assert caught.value.hint == "reg scan PATH adds models"
    saved(tmp_path / "b", base(1))
    scan(catalog, [str(tmp_path / "b")])
    with pytest.raises(NotHomologous, match="1 of its models"):
        infer(catalog)

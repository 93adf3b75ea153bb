"""Claims and the edges they become."""

import json

import numpy as np
import pytest
from conftest import save_adapter
from safetensors.numpy import save_file

from registry.scan import scan

ORDER = iter(range(1, 1_000_000))


def model(folder, card="", config=None, metadata=None, shape=(2, 3), **files):
    """A checkpoint of weights that no other has."""
    folder.mkdir(parents=True)
    weights = np.full(shape, float(next(ORDER)), np.float32)
    save_file({"w": weights}, folder / "model.safetensors", metadata=metadata)
    (folder / "config.json").write_text(json.dumps(config or {}))
    if card:
        (folder / "README.md").write_text(f"---\n{card}\n---\n")
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def edges(catalog):
    rows = catalog.rows(
        "select child_name, parent_name, relation, role, coefficient, confidence from edges "
        "order by all"
    )
    return [tuple(r.values()) for r in rows]


def pairs(catalog):
    return {(child, parent) for child, parent, *_ in edges(catalog)}


def evidence(catalog):
    rows = catalog.rows("select detail, value, statistic, scope from evidence order by detail")
    assert {(r["statistic"], r["scope"]) for r in rows} <= {("trust", "header")}
    return [(r["detail"], r["value"]) for r in rows]


def latents(catalog):
    rows = catalog.rows("select name from models where status = 'latent' order by 1")
    return [r["name"] for r in rows]


# --- How a base is found


BY_NAME = ("lab/base", "LAB/Base", "hf://lab/base@main", "lab/base/", "base", "{tree}/lab/base")
BY_LAST_WORD = ("/their/home/base", "C:\\\\models\\\\base", "other/base", "../base")


def test_a_base_is_found_by_what_people_call_it(tmp_path, catalog):
    model(tmp_path / "lab" / "base")
    claims = [claim.format(tree=tmp_path) for claim in (*BY_NAME, *BY_LAST_WORD)]
    for i, claim in enumerate(claims):
        model(tmp_path / f"chat-{i}", f'base_model: "{claim}"')
    scan(catalog, [str(tmp_path)])
    assert latents(catalog) == []
    trust = [0.9] * len(BY_NAME) + [0.81] * len(BY_LAST_WORD)
    assert edges(catalog) == [
        (f"chat-{i}", "base", "finetune", "parent", None, trust[i]) for i in range(len(claims))
    ]
    said = dict(evidence(catalog))
    how = ["found by name"] * len(BY_NAME) + ["found by the last part of its name"] * len(
        BY_LAST_WORD
    )
    for claim, way, value in zip(claims, how, trust, strict=True):
        words = claim.replace("\\\\", "\\")
        assert said[f"card says {words}: {way}"] == pytest.approx(value)


def test_a_place_in_somebodys_cache_is_the_repository(tmp_path, catalog):
    model(tmp_path / "lab" / "base")
    place = "/root/.cache/huggingface/hub/models--lab--base/snapshots/0123abc"
    model(tmp_path / "chat", config={"_name_or_path": place})
    scan(catalog, [str(tmp_path)])
    assert pairs(catalog) == {("chat", "base")}


def test_a_digest_is_the_model_itself(tmp_path, catalog):
    model(tmp_path / "base")
    scan(catalog, [str(tmp_path)])
    id_ = catalog.find("base")
    parents = {"parents": [{"digest": id_, "role": "base"}, {"digest": "ab" * 32, "role": "model"}]}
    model(tmp_path / "merged", metadata={"homolog": json.dumps(parents)})
    scan(catalog, [str(tmp_path)])
    assert pairs(catalog) == {("merged", "base"), ("merged", "digest:" + "ab" * 32)}


def test_the_last_word_alone_needs_the_same_shapes(tmp_path, catalog):
    model(tmp_path / "base", shape=(5, 5))
    model(tmp_path / "chat", "base_model: elsewhere/base")
    scan(catalog, [str(tmp_path)])
    assert pairs(catalog) == {("chat", "elsewhere/base")}
    assert latents(catalog) == ["elsewhere/base"]


def test_an_adapter_needs_no_shapes_and_its_base_is_no_adapter(tmp_path, catalog):
    model(tmp_path / "a" / "base", shape=(5, 5))
    save_adapter(tmp_path / "b" / "base", "elsewhere/base")
    save_adapter(tmp_path / "c" / "lora", "elsewhere/base", seed=2)
    scan(catalog, [str(tmp_path)])
    assert {e[1:4] for e in edges(catalog)} == {("base", "adapter", "parent")}
    kinds = catalog.rows(
        "select m.kind from edges e join models m on m.id = e.parent group by m.kind"
    )
    assert kinds == [{"kind": "model"}]


def test_two_models_of_one_name_are_no_answer(tmp_path, catalog):
    model(tmp_path / "x" / "base")
    model(tmp_path / "y" / "base")
    model(tmp_path / "chat", "base_model: base")
    scan(catalog, [str(tmp_path)])
    assert latents(catalog) == ["base"]
    (edge,) = catalog.rows("select parent from edges")
    assert catalog.rows("select status from models where id = ?", [edge["parent"]]) == [
        {"status": "latent"}
    ]
    model(tmp_path / "math", "base_model: x/base")
    scan(catalog, [str(tmp_path)])
    assert len(catalog.rows("select 1 from edges where child_name = 'math'")) == 1
    assert latents(catalog) == ["base"]


def test_shapes_decide_between_two_of_one_name(tmp_path, catalog):
    right = model(tmp_path / "x" / "base")
    model(tmp_path / "y" / "base", shape=(7, 7))
    model(tmp_path / "chat", "base_model: base")
    scan(catalog, [str(tmp_path)])
    (edge,) = catalog.rows("select parent, confidence from edges")
    assert edge == {"parent": catalog.find(str(right)), "confidence": 0.81}


def test_a_model_that_names_itself_says_nothing(tmp_path, catalog):
    for i, name in enumerate(("me-0", "ME-1", str(tmp_path / "t" / "me-2"), "t/me-3")):
        own = {"_name_or_path": f"/trained/there/me-{i}"}
        model(tmp_path / "t" / f"me-{i}", f"base_model: {name}", config=own)
    scan(catalog, [str(tmp_path)])
    assert edges(catalog) == []
    assert latents(catalog) == []
    rows = catalog.rows("select resolved_id from claims where predicate = 'base_model'")
    assert [r["resolved_id"] for r in rows] == [None] * 8


# --- Latent models


def test_siblings_of_a_base_that_nobody_has_shown_are_siblings(tmp_path, catalog):
    model(tmp_path / "chat", "base_model: Lab/Base")
    model(tmp_path / "math", "base_model: lab/base")
    model(tmp_path / "code", config={"_name_or_path": "hf://lab/base@v2"})
    scan(catalog, [str(tmp_path)])
    assert len(latents(catalog)) == 1
    assert len({r["parent"] for r in catalog.rows("select parent from edges")}) == 1
    assert all("nobody has shown it" in detail for detail, _ in evidence(catalog))
    assert catalog.find("Lab/Base") == catalog.find("lab/base")


def test_a_latent_model_disappears_once_the_base_is_scanned(tmp_path, catalog):
    model(tmp_path / "a" / "chat", "base_model: lab/base")
    scan(catalog, [str(tmp_path)])
    assert latents(catalog) == ["lab/base"]
    model(tmp_path / "lab" / "base")
    scan(catalog, [str(tmp_path)])
    assert latents(catalog) == []
    (edge,) = catalog.rows("select parent from edges")
    assert edge["parent"] == catalog.find("base")
    assert len(evidence(catalog)) == 1


def test_a_latent_model_disappears_with_its_last_claim(tmp_path, catalog):
    folder = model(tmp_path / "chat", "base_model: lab/base")
    scan(catalog, [str(tmp_path)])
    (folder / "README.md").unlink()
    scan(catalog, [str(tmp_path)])
    assert latents(catalog) == []
    assert edges(catalog) == []
    assert evidence(catalog) == []


# --- Relations, roles, coefficients


def test_a_card_and_a_config_that_agree_are_one_edge_with_two_reasons(tmp_path, catalog):
    model(tmp_path / "base")
    model(tmp_path / "chat", "base_model: base", config={"_name_or_path": "base"})
    scan(catalog, [str(tmp_path)])
    ((child, parent, relation, _, _, confidence),) = edges(catalog)
    assert (child, parent, relation) == ("chat", "base", "finetune")
    assert confidence == pytest.approx(1 - 0.1 * 0.3)
    assert evidence(catalog) == [
        ("card says base: found by name", 0.9),
        ("config says base: found by name", 0.7),
    ]


def test_a_copied_card_convinces_no_more_than_one(tmp_path, catalog):
    model(tmp_path / "base")
    first = model(tmp_path / "chat", "base_model: base")
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in first.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    scan(catalog, [str(tmp_path)])
    assert [e[-1] for e in edges(catalog)] == [0.9]
    assert len(evidence(catalog)) == 2


RELATIONS = {
    "finetune": "finetune",
    "Quantized": "quantized",
    "adapter": "adapter",
    "continued_pretrain": "continued_pretrain",
    "cousin twice removed": "finetune",
}


def test_the_relation_is_the_cards_word_if_it_is_one_of_the_fields(tmp_path, catalog):
    model(tmp_path / "base")
    for i, said in enumerate(RELATIONS):
        model(tmp_path / f"child-{i}", f"base_model: base\nbase_model_relation: {said}")
    scan(catalog, [str(tmp_path)])
    assert [e[2] for e in edges(catalog)] == list(RELATIONS.values())
    stated = catalog.rows("select object from claims where predicate = 'relation' order by model")
    assert [r["object"] for r in stated] == list(RELATIONS)


def test_a_card_that_names_several_bases_tells_of_a_merge(tmp_path, catalog):
    model(tmp_path / "a")
    model(tmp_path / "b")
    model(tmp_path / "merged", "base_model: [a, b]")
    scan(catalog, [str(tmp_path)])
    assert edges(catalog) == [
        ("merged", "a", "merge", "model", None, 0.9),
        ("merged", "b", "merge", "model", None, 0.9),
    ]


def test_two_sources_that_name_different_bases_tell_of_no_merge(tmp_path, catalog):
    model(tmp_path / "a")
    model(tmp_path / "chat", "base_model: a", config={"_name_or_path": "/tmp/run-7/last"})
    scan(catalog, [str(tmp_path)])
    assert {e[1:4] for e in edges(catalog)} == {
        ("a", "finetune", "parent"),
        ("/tmp/run-7/last", "finetune", "parent"),
    }


MERGEKIT = """
merge_method: ties
base_model: base
models:
  - model: chat
    parameters: {weight: 0.25, density: 0.5}
  - model: math
    parameters: {weight: [0, 1]}
  - model: base
"""


def test_mergekits_recipe_gives_roles_and_coefficients(tmp_path, catalog):
    for name in ("base", "chat", "math"):
        model(tmp_path / name)
    model(tmp_path / "merged", "base_model: [chat, math, base]", mergekit_config__yml=MERGEKIT)
    scan(catalog, [str(tmp_path)])
    both = pytest.approx(1 - 0.05 * 0.1)
    assert edges(catalog) == [
        ("merged", "base", "merge", "base", None, both),
        ("merged", "chat", "merge", "model", 0.25, both),
        ("merged", "math", "merge", "model", None, both),
    ]


def test_our_sidecar_gives_roles_and_coefficients(tmp_path, catalog):
    for name in ("base", "chat"):
        model(tmp_path / name)
    scan(catalog, [str(tmp_path)])
    sidecar = {
        "format": "homolog-sidecar-1",
        "parents": [
            {"digest": catalog.find("base"), "role": "base", "coefficient": None},
            {"digest": catalog.find("chat"), "role": "model", "coefficient": 0.5},
        ],
    }
    model(tmp_path / "merged", homolog__json=json.dumps(sidecar))
    scan(catalog, [str(tmp_path)])
    assert edges(catalog) == [
        ("merged", "base", "merge", "base", None, 0.99),
        ("merged", "chat", "merge", "model", 0.5, 0.99),
    ]


# --- Again and again


def test_resolving_again_writes_no_row(tmp_path, catalog):
    model(tmp_path / "base")
    model(tmp_path / "chat", "base_model: base")
    model(tmp_path / "math", "base_model: nobody/has-it")
    scan(catalog, [str(tmp_path)])
    kept = "select * from store.edge order by all", "select * from store.model order by all"
    before = [catalog.rows(sql) for sql in kept]
    model(tmp_path / "other", shape=(9, 9))
    scan(catalog, [str(tmp_path)])
    after = [catalog.rows(sql) for sql in kept]
    assert after[0] == before[0], "an edge that was right was written again"
    assert [r for r in after[1] if r in before[1]] == before[1]


def test_edges_of_other_origins_are_left_alone(tmp_path, catalog):
    model(tmp_path / "base")
    model(tmp_path / "chat", "base_model: base")
    scan(catalog, [str(tmp_path)])
    ids = [catalog.find("chat"), catalog.find("base")]
    with catalog.write() as transaction:
        for status in ("measured", "inferred", "recorded"):
            transaction.execute(
                "insert into store.edge values (?, ?, 'finetune', 'parent', ?, null, 1, null, now(), null, null)",
                [*ids, status],
            )
    (tmp_path / "chat" / "README.md").unlink()
    scan(catalog, [str(tmp_path)])
    rows = catalog.rows("select status from edges order by 1")
    assert [r["status"] for r in rows] == ["inferred", "measured", "recorded"]


def test_a_moved_base_is_still_the_base(tmp_path, catalog):
    base = model(tmp_path / "t" / "base")
    model(tmp_path / "t" / "chat", "base_model: base")
    scan(catalog, [str(tmp_path)])
    id_ = catalog.find("base")
    base.rename(tmp_path / "t" / "foundation")
    assert scan(catalog, [str(tmp_path)]).gone == 1
    assert [r["parent"] for r in catalog.rows("select parent from edges")] == [id_]
    assert catalog.find("foundation") == id_
    assert latents(catalog) == []


def test_a_cycle_of_claims_is_kept_and_shown(tmp_path, catalog):
    model(tmp_path / "a", "base_model: b")
    model(tmp_path / "b", "base_model: a")
    scan(catalog, [str(tmp_path)])
    assert pairs(catalog) == {("a", "b"), ("b", "a")}
    kinds = {r["kind"] for r in catalog.rows("select kind from conflicts")}
    assert kinds == {"parents_of_each_other"}

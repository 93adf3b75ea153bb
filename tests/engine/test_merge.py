"""Merging end to end: a new model with its lineage, the same bytes each time, and no trace of a failure."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine import merge as merging
from engine.lookup import identify
from engine.merge import merge, plan, reproduce
from engine.methods import all_methods
from engine.options import Options
from engine.recipe_file import recipe_from_text
from engine.stats import measure
from engine.verify import verify
from registry.catalog import Catalog
from registry.errors import (
    BadAddress,
    BadParameter,
    BadRecipe,
    CatalogLocked,
    NonFinite,
    NotEnoughDisk,
    NotHomologous,
    OutputExists,
    UnknownMethod,
    UnknownModel,
)
from registry.scan import scan

METHODS = all_methods()


def files(folder):
    """Every file of a folder and its bytes."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*")) if p.is_file()
    }  # fmt: skip


def runs(catalog):
    return catalog.rows("select * from store.run order by started_at, id")


def names_for(method):
    return ("chat",) if METHODS[method].n_models[1] == 1 else ("chat", "math")


@pytest.mark.parametrize("method", ["dare_linear", "passthrough", "slerp", "widen"])
def test_a_merge_is_whole_registered_verified_and_reproduced(method, shelf, recipe_of, tmp_path):
    merged = merge(shelf, recipe_of(method, *names_for(method), seed=5), tmp_path / "out")
    assert merged.folder == tmp_path / "out"
    assert shelf.find(str(merged.folder)) == merged.model
    assert sorted(files(merged.folder)) == [
        "README.md", "config.json", "homolog.json", "model.safetensors", "tokenizer.json",
    ]  # fmt: skip
    found = verify(shelf, str(merged.folder))
    assert found.ok, found.differences
    assert found.checked == ("file format", "sidecar", "metadata", "catalog")
    expected, again = reproduce(shelf, merged.model, tmp_path / "again", options=Options(jobs=1))
    assert again.model == expected == merged.model
    assert files(tmp_path / "again") == files(tmp_path / "out")
    assert [row["status"] for row in runs(shelf)] == ["COMPLETE", "COMPLETE"]


def test_merging_twice_gives_the_same_bytes_in_every_file(shelf, recipe_of, tmp_path):
    recipe = recipe_of("dare_ties", "chat", "math")
    merge(shelf, recipe, tmp_path / "one", options=Options(jobs=1, memory_bytes=1))
    merge(shelf, recipe, tmp_path / "two", options=Options(jobs=4))
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_lineage_is_recorded_with_roles_coefficients_and_evidence(shelf, recipe_of, tmp_path):
    recipe = recipe_of("task_arithmetic", "chat", "math", **{"lambda": 0.5})
    merged = merge(shelf, recipe, tmp_path / "out")
    edges = shelf.rows(
        "select parent_name, role, coefficient, status, relation, run_id from edges "
        "where child = ? and status = 'recorded' order by parent_name",
        [merged.model],
    )
    common = {"status": "recorded", "relation": "merge", "run_id": merged.run}
    assert edges == [
        {"parent_name": "base", "role": "base", "coefficient": None, **common},
        {"parent_name": "chat", "role": "model", "coefficient": 0.5, **common},
        {"parent_name": "math", "role": "model", "coefficient": 0.5, **common},
    ]
    evidence = shelf.rows(
        "select method, scope, detail from store.evidence where child = ? and status = 'recorded'",
        [merged.model],
    )
    assert len(evidence) == 3
    assert all(row["method"] == "run" and merged.run[:12] in row["detail"] for row in evidence)
    (row,) = runs(shelf)
    assert (row["status"], row["model_id"], row["output"]) == (
        "COMPLETE",
        merged.model,
        str(tmp_path / "out"),
    )
    assert (row["read_bytes"], row["write_bytes"]) == (merged.read_bytes, merged.write_bytes)
    assert row["ended_at"] >= row["started_at"]
    assert row["error"] is None


def test_a_model_listed_twice_has_one_edge_with_the_sum_of_its_coefficients(
    shelf, recipe_of, tmp_path
):
    merged = merge(shelf, recipe_of("linear", "chat", "chat", "math"), tmp_path / "out")
    edges = shelf.rows(
        "select parent_name, coefficient from edges where child = ? and status = 'recorded' order by 1",
        [merged.model],
    )
    assert [row["parent_name"] for row in edges] == ["chat", "math"]
    assert edges[0]["coefficient"] == pytest.approx(2 / 3)
    assert verify(shelf, merged.model).ok


def test_a_merge_of_merges_has_both_generations_as_ancestors(shelf, recipe_of, tmp_path):
    first = merge(shelf, recipe_of("linear", "chat", "math"), tmp_path / "first")
    second = merge(shelf, recipe_of("ties", str(tmp_path / "first"), "cpt"), tmp_path / "second")
    ancestors = {
        r["parent"] for r in shelf.rows("select parent from edges where child = ?", [second.model])
    }
    assert {first.model, shelf.find("cpt"), shelf.find("base")} == ancestors


def test_the_base_is_found_by_lineage(shelf, recipe_of):
    decided = plan(shelf, recipe_of("ties", "chat", "cpt"))
    assert decided.base.id == shelf.find("base")
    named = plan(shelf, recipe_of("ties", "chat", "cpt", base="base"))
    assert named == decided


def test_mergekits_form_with_the_base_among_the_models(shelf, family, tmp_path):
    text = f"""
    merge_method: dare_ties
    base_model: {family.base}
    models:
      - model: {family.base}
      - model: {family.chat}
        parameters: {{density: 0.5, weight: 0.3}}
      - model: {family.math}
        parameters: {{density: 0.6, weight: 0.7}}
    parameters: {{normalize: true}}
    dtype: float32
    """
    merged = merge(shelf, recipe_from_text(text), tmp_path / "out")
    canonical = json.loads(shelf.rows("select canonical from store.recipe")[0]["canonical"])
    assert canonical["models"] == [shelf.find("chat"), shelf.find("math")]
    sources = canonical["modules"][0]["slices"][0]["sources"]
    assert [s["parameters"]["density"] for s in sources] == [0.5, 0.6]
    config = json.loads((merged.folder / "config.json").read_text(encoding="utf-8"))
    assert config["torch_dtype"] == "float32"
    (row,) = shelf.rows("select dtype from store.model where id = ?", [merged.model])
    assert row["dtype"] == "F32"


def test_masks_depend_on_models_and_not_on_their_order(shelf, recipe_of, tmp_path):
    for name, order in (("ab", ("chat", "math")), ("ba", ("math", "chat"))):
        merge(shelf, recipe_of("dare_linear", *order, seed=9), tmp_path / name)
    assert shelf.find(str(tmp_path / "ab")) == shelf.find(str(tmp_path / "ba"))
    decided = plan(shelf, recipe_of("dare_linear", "chat", "math", seed=10))
    assert (
        decided.recipe.digest
        != plan(shelf, recipe_of("dare_linear", "chat", "math", seed=9)).recipe.digest
    )


def test_strangers_are_refused_unless_told_otherwise(shelf, recipe_of, tmp_path):
    recipe = recipe_of("linear", "chat", "stranger")
    with pytest.raises(NotHomologous) as caught:
        merge(shelf, recipe, tmp_path / "out")
    assert "--allow-unrelated" in caught.value.hint
    assert not list(tmp_path.glob("*out*"))
    assert not runs(shelf)
    merged = merge(shelf, recipe, tmp_path / "out", options=Options(allow_unrelated=True))
    assert verify(shelf, merged.model).ok


def test_task_vectors_of_strangers_have_no_base(shelf, recipe_of):
    with pytest.raises(NotHomologous, match="no common base of chat, stranger is known") as caught:
        plan(shelf, recipe_of("ties", "chat", "stranger"))
    assert "--base" in caught.value.hint


def test_a_base_that_is_only_talked_of_is_named(catalog, family, recipe_of):
    with pytest.raises(BadAddress, match="is base, whose files nobody has shown") as caught:
        plan(catalog, recipe_of("ties", family.chat, family.cpt))
    assert "reg scan" in caught.value.hint


@pytest.mark.parametrize("method", ["linear", "ties"])
def test_a_base_that_the_user_names_is_believed_when_the_weights_show_it(
    method, catalog, family, recipe_of, tmp_path
):
    folders = {
        name: shutil.copytree(getattr(family, name), tmp_path / name) for name in ("base", "cpt")
    }
    for folder in folders.values():
        (folder / "README.md").unlink()
    ids = {name: identify(catalog, str(folder)) for name, folder in folders.items()}
    recipe = recipe_of(method, folders["cpt"], folders["base"], base=folders["base"])
    with pytest.raises(NotHomologous, match="cpt descends from base") as caught:
        plan(catalog, recipe)
    assert "reg stats" in caught.value.hint
    measure(catalog, ids["cpt"], ids["base"])
    assert plan(catalog, recipe).parents[0].id == ids["base"]


@pytest.mark.parametrize(
    ("method", "parameters", "error"),
    [
        ("tiess", {}, UnknownMethod),
        ("ties", {"densty": 0.5}, BadRecipe),
        ("ties", {"density": 2.0}, BadParameter),
    ],
)
def test_what_the_recipe_is_wrong_for_is_said_before_any_model_is_read(
    *, method, parameters, error, catalog, family, recipe_of
):
    with pytest.raises(error):
        plan(catalog, recipe_of(method, family.chat, family.math, **parameters))
    assert not catalog.rows("select 1 from store.model")


def test_an_unknown_model_is_named(shelf, recipe_of):
    with pytest.raises(UnknownModel, match="'chatt'"):
        plan(shelf, recipe_of("linear", "chatt", "math"))


def test_an_output_that_exists_stays_as_it_is(shelf, recipe_of, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine", encoding="utf-8")
    for call in (
        lambda: merge(shelf, recipe_of("linear", "chat", "math"), tmp_path / "out"),
        lambda: merge(shelf, recipe_of("linear", "chat", "math"), tmp_path / "out" / "mine"),
        lambda: reproduce(shelf, "chat", tmp_path / "out"),
    ):
        with pytest.raises(OutputExists):
            call()
    assert files(tmp_path / "out") == {"mine": b"mine"}
    assert not runs(shelf)


def test_an_empty_output_folder_is_used(shelf, recipe_of, tmp_path):
    (tmp_path / "out").mkdir()
    merged = merge(shelf, recipe_of("linear", "chat", "math"), tmp_path / "out")
    assert verify(shelf, str(merged.folder)).ok


def poisoned(family, tmp_path):
    """A copy of chat with NaN in its last tensor."""
    folder = shutil.copytree(family.chat, tmp_path / "models" / "poisoned")
    tensors = dict(family.weights["chat"])
    tensors["model.norm.weight"] = tensors["model.norm.weight"].clone()
    tensors["model.norm.weight"][3] = torch.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_failed_run_leaves_a_row_and_nothing_else(shelf, family, recipe_of, tmp_path):
    bad = poisoned(family, tmp_path)
    with pytest.raises(NonFinite, match=r"model\.norm\.weight of .*poisoned"):
        merge(shelf, recipe_of("ties", "math", bad), tmp_path / "out")
    (row,) = runs(shelf)
    assert row["status"] == "FAILED"
    assert "model.norm.weight" in row["error"]
    assert row["model_id"] is None
    assert row["ended_at"] is not None
    assert not [p for p in tmp_path.iterdir() if "out" in p.name]


class Interrupts:
    """Progress that is interrupted at the first byte of a merge."""

    def start(self, what, total_bytes):
        self.what = what

    def advance(self, n_bytes):
        if self.what == "merge":
            raise KeyboardInterrupt


def test_an_interrupted_run_is_aborted_and_leaves_nothing(shelf, recipe_of, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        merge(shelf, recipe_of("ties", "chat", "math"), tmp_path / "out", progress=Interrupts())
    assert [row["status"] for row in runs(shelf)] == ["ABORTED"]
    assert not [p for p in tmp_path.iterdir() if "out" in p.name]


def test_a_result_that_cannot_fit_is_refused_before_a_run_begins(
    shelf, recipe_of, tmp_path, monkeypatch
):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(NotEnoughDisk, match="1,000 free"):
        merge(shelf, recipe_of("linear", "chat", "math"), tmp_path / "out")
    assert not runs(shelf)


def test_an_error_survives_a_catalog_that_cannot_be_written(shelf, family, recipe_of, tmp_path):
    bad = poisoned(family, tmp_path)

    class Locked(Catalog):
        def write(self):
            if (tmp_path / "locked").exists():
                message = "held by process 1"
                raise CatalogLocked(message)
            return super().write()

    class Locks(Interrupts):
        def advance(self, n_bytes):
            if self.what == "merge":
                (tmp_path / "locked").touch()

    with pytest.raises(NonFinite) as caught:
        merge(
            Locked(shelf.path),
            recipe_of("dare_linear", "math", bad),
            tmp_path / "out",
            progress=Locks(),
        )
    assert caught.value.__notes__ == ["the run could not be marked as FAILED: held by process 1"]
    assert not [p for p in tmp_path.iterdir() if "out" in p.name]


def test_a_merge_can_be_reproduced_from_its_sidecar_alone(shelf, family, recipe_of, tmp_path):
    merged = merge(shelf, recipe_of("dare_linear", "chat", "math", seed=4), tmp_path / "out")
    fresh = Catalog(tmp_path / "fresh.duckdb")
    scan(fresh, [str(family.base), str(family.chat), str(family.math)])
    expected, again = reproduce(fresh, str(tmp_path / "out"), tmp_path / "again")
    assert expected == again.model == merged.model
    assert files(tmp_path / "again") == files(tmp_path / "out")


def test_what_was_never_merged_cannot_be_reproduced(shelf, tmp_path):
    with pytest.raises(UnknownModel, match="no recipe of chat is recorded"):
        reproduce(shelf, "chat", tmp_path / "out")


def test_a_sidecar_without_a_recipe_is_refused(catalog, family, tmp_path):
    folder = shutil.copytree(family.chat, tmp_path / "forged")
    (folder / "homolog.json").write_text('{"format": "homolog-sidecar-1"}', encoding="utf-8")
    with pytest.raises(BadRecipe):
        reproduce(catalog, str(folder), tmp_path / "out")


def test_the_card_tells_what_was_measured_of_the_parents(shelf, recipe_of, tmp_path):
    measure(shelf, shelf.find("chat"), shelf.find("base"))
    merge(shelf, recipe_of("ties", "chat", "math"), tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "relative L2 of chat's task vector | 0.0" in text


def test_files_without_a_config_merge_into_files_without_a_config(
    catalog, family, recipe_of, tmp_path
):
    for name in ("one", "two"):
        save_file(
            family.weights["chat" if name == "one" else "math"], tmp_path / f"{name}.safetensors"
        )
    recipe = recipe_of("linear", tmp_path / "one.safetensors", tmp_path / "two.safetensors")
    merged = merge(catalog, recipe, tmp_path / "out", options=Options(allow_unrelated=True))
    assert sorted(files(merged.folder)) == ["README.md", "homolog.json", "model.safetensors"]
    assert verify(catalog, merged.model).ok


def test_output_may_be_given_relative_to_the_current_folder(
    shelf, recipe_of, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    merged = merge(shelf, recipe_of("linear", "chat", "math"), Path("deep/er/out"))
    assert merged.folder == tmp_path / "deep" / "er" / "out"
    assert list((tmp_path / "deep" / "er").iterdir()) == [merged.folder]
    assert merging.recorded_recipe(shelf, merged.model)["method"] == "linear"

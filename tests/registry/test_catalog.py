"""Finding models by what people type, and their files by their id."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from registry.catalog import Catalog, Columns, default_path, now
from registry.errors import AmbiguousModel, BadAddress, CatalogMissing, FileChanged, UnknownModel
from registry.records import Problem
from registry.scan import scan


@pytest.fixture
def tree(tmp_path, catalog):
    """A scanned tree with two folders called `chat`."""
    for i, name in enumerate(("lab/base", "lab/chat", "home/chat")):
        folder = tmp_path / "tree" / name
        folder.mkdir(parents=True)
        save_file({"w": np.full(3, i, np.float32)}, folder / "model.safetensors")
        (folder / "config.json").write_text("{}")
    (tmp_path / "tree/lab/chat/README.md").write_text("---\nbase_model: org/Unseen\n---\n")
    scan(catalog, [str(tmp_path / "tree")])
    return tmp_path / "tree"


# --- Where the catalog is


def test_the_environment_names_the_catalog(monkeypatch, tmp_path):
    monkeypatch.setenv("REG_CATALOG", str(tmp_path / "x.duckdb"))
    assert default_path() == Catalog().path == tmp_path / "x.duckdb"
    monkeypatch.setenv("REG_CATALOG", "relative.duckdb")
    monkeypatch.chdir(tmp_path)
    assert default_path() == tmp_path / "relative.duckdb"


def test_the_nearest_parent_with_a_reg_folder_holds_the_catalog(monkeypatch, tmp_path):
    (tmp_path / "a" / ".reg").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b" / "c")
    assert default_path() == tmp_path / "a" / ".reg" / "catalog.duckdb"


def test_else_the_users_data_folder_holds_the_catalog(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    found = default_path()
    assert found.is_relative_to(tmp_path)
    assert found.parts[-2:] == ("homolog", "catalog.duckdb")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert default_path().is_relative_to(tmp_path)


# --- What people type


def test_a_model_is_found_by_all_that_people_type(tree, catalog, monkeypatch, tmp_path):
    base = catalog.find("base")
    monkeypatch.chdir(tree)
    (tmp_path / "link").symlink_to(tree / "lab")
    for text in (
        "BASE", "lab/base", "./lab/base", "lab/../lab/base/", str(tree / "lab" / "base"), base,
        base[:12], base[:6].upper(), str(tmp_path / "link" / "base"),
    ):  # fmt: skip
        assert catalog.find(text) == base, text


def test_a_path_from_home_is_found(tree, catalog, monkeypatch):
    monkeypatch.setenv("HOME", str(tree))
    assert catalog.find("~/lab/base") == catalog.find("base")


def test_a_model_that_nobody_has_shown_is_found_by_its_name(tree, catalog):
    (row,) = catalog.rows("select id from models where status = 'latent'")
    for text in ("org/Unseen", "ORG/unseen", "hf://org/unseen", row["id"][:8]):
        assert catalog.find(text) == row["id"]


def test_a_name_of_two_models_is_ambiguous_and_lists_both(tree, catalog):
    with pytest.raises(AmbiguousModel) as caught:
        catalog.find("chat")
    assert str(tree / "lab" / "chat") in caught.value.message
    assert str(tree / "home" / "chat") in caught.value.message
    assert catalog.find("lab/chat") != catalog.find("home/chat")


def test_what_is_unknown_comes_with_the_nearest_name(tree, catalog, monkeypatch, tmp_path):
    with pytest.raises(UnknownModel, match="'bass'") as caught:
        catalog.find("bass")
    assert caught.value.hint == "did you mean base?"
    with pytest.raises(UnknownModel) as caught:
        catalog.find("zzzzzzzz")
    assert caught.value.hint == "reg ls lists the models"
    (tmp_path / "0000").mkdir()
    with pytest.raises(UnknownModel) as caught:
        catalog.find(str(tmp_path / "0000"))
    assert caught.value.hint.startswith("reg scan ")


@pytest.mark.parametrize(
    "text",
    ["", "~nobody", "~nobody/x", "a\0b", "x" * 5000, "\udcff", "'; drop table x; --", "%", "a*"],
)
def test_odd_texts_are_unknown_and_no_crash(tree, catalog, text):
    with pytest.raises(UnknownModel):
        catalog.find(text)


def test_short_beginnings_of_ids_are_not_looked_up(tree, catalog):
    with pytest.raises(UnknownModel):
        catalog.find(catalog.find("base")[:3])


def test_a_catalog_that_is_not_there_says_so(tmp_path):
    with pytest.raises(CatalogMissing):
        Catalog(tmp_path / "none.duckdb").find("x")


def test_a_model_is_called_by_its_first_address_or_by_its_id(tree, catalog):
    assert catalog.name(catalog.find("lab/base")) == "base"
    assert catalog.name("f" * 64) == "f" * 12


# --- Files


def test_the_files_of_a_model_are_read_where_they_lie(tree, catalog):
    checkpoint = catalog.checkpoint(catalog.find("base"))
    assert checkpoint.root == tree / "lab" / "base"
    assert [t.name for t in checkpoint.tensors] == ["w"]


def test_a_bare_file_is_read_where_it_lies(tmp_path, catalog):
    save_file({"w": np.ones(3, np.float32)}, tmp_path / "x.safetensors")
    save_file({"w": np.zeros(3, np.float32)}, tmp_path / "y.safetensors")
    scan(catalog, [str(tmp_path / "x.safetensors")])
    assert catalog.checkpoint(catalog.find("x")).root == tmp_path / "x.safetensors"


def test_another_address_serves_when_the_first_is_gone_or_changed(tree, catalog):
    shutil.copytree(tree / "lab" / "base", tree / "zoo" / "copy")
    scan(catalog, [str(tree)])
    base = catalog.find("base")
    weights = tree / "lab" / "base" / "model.safetensors"
    os.utime(weights, ns=(1, 1))
    assert catalog.checkpoint(base).root == tree / "zoo" / "copy"
    weights.unlink()
    assert catalog.checkpoint(base).root == tree / "zoo" / "copy"


def test_changed_weights_are_refused_and_a_changed_card_is_not(tree, catalog):
    folder, base = tree / "lab" / "base", catalog.find("base")
    (folder / "README.md").write_text("new")
    assert catalog.checkpoint(base).root == folder
    os.utime(folder / "model.safetensors", ns=(1, 1))
    with pytest.raises(FileChanged, match="changed since they were scanned") as caught:
        catalog.checkpoint(base)
    assert caught.value.hint == f"reg scan {folder}"


def test_a_file_that_would_change_what_is_read_is_a_change(tree, catalog):
    folder = tree / "lab" / "base"
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"w": "x.safetensors"}}')
    with pytest.raises(FileChanged):
        catalog.checkpoint(catalog.find("base"))


def test_files_that_are_gone_are_named(tree, catalog):
    base = catalog.find("base")
    shutil.rmtree(tree / "lab" / "base")
    with pytest.raises(BadAddress, match="are gone") as caught:
        catalog.checkpoint(base)
    assert str(tree / "lab" / "base") in caught.value.message
    with pytest.raises(BadAddress, match="no place at all"):
        catalog.checkpoint(catalog.find("org/Unseen"))


# --- Rows


def test_columns_are_collected_by_table_and_inserted_once(catalog):
    columns = Columns()
    problem = Problem(uri="/m", file="f", error="E", detail="d", seen_at=now())
    columns.add([problem])
    columns.add_rows("problem", [{**problem.model_dump(), "file": "g"}])
    columns.add_rows("setting", [])
    with catalog.write() as transaction:
        columns.insert(transaction, "error")
        columns.insert(transaction, "error")
    rows = catalog.rows("select file, seen_at from problems order by file")
    assert [r["file"] for r in rows] == ["f", "g"]
    assert rows[0]["seen_at"] == problem.seen_at


def test_several_queries_see_the_same_moment(catalog):
    with catalog.read() as reader:
        assert reader.rows("select 1 as x") == [{"x": 1}]
        assert reader.rows("select count(*) as n from models") == [{"n": 0}]


def test_the_catalog_loads_without_the_heavy_packages():
    import subprocess  # noqa: PLC0415

    code = (
        "import registry.catalog, registry.sealed, sys; "
        "print([m for m in ('torch', 'sqlmodel', 'networkx', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stdout == "[]\n"

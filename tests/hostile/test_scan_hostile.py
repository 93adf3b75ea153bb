"""One bad file never costs the rest of a scan, and what is wrong has a name."""

import json
import os
import shutil

import numpy as np
import pytest
from conftest import save_adapter
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from registry.catalog import Catalog
from registry.scan import scan


def tiny(folder, value=1.0, config='{"model_type": "tiny"}', **tensors):
    folder.mkdir(parents=True)
    tensors = tensors or {"w": np.full((4, 4), value, np.float32)}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(config)
    return folder


def raw(folder, header, data=b""):
    """A checkpoint whose header is written by hand."""
    folder.mkdir(parents=True)
    text = json.dumps(header).encode()
    content = len(text).to_bytes(8, "little") + text + data
    (folder / "model.safetensors").write_bytes(content)
    return folder


def names(report):
    return [m.name for m in report.models]


def test_five_bad_places_are_five_problems_and_cost_nobody_else(tmp_path, catalog):
    tree = tmp_path / "tree"
    good = [tiny(tree / "a-good", 1.0), tiny(tree / "z-good", 2.0)]
    corrupt = tiny(tree / "corrupt")
    (corrupt / "model.safetensors").write_bytes(b"\xff" * 100)
    truncated = tiny(tree / "truncated") / "model.safetensors"
    truncated.write_bytes(truncated.read_bytes()[:-10])
    escaping = tiny(tree / "escaping")
    (escaping / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"w": "../../etc/passwd"}})
    )
    (tree / "pickled").mkdir()
    (tree / "pickled" / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    (tree / "empty").mkdir()

    report = scan(catalog, [str(tree)])

    assert names(report) == ["a-good", "z-good"]
    assert [m.status for m in report.models] == ["full", "full"]
    rows = catalog.rows("select uri, file, error, detail from problems order by uri")
    assert [(r["uri"], r["file"], r["error"]) for r in rows] == [
        (str(tree / "corrupt"), "model.safetensors", "HeaderTooLarge"),
        (str(tree / "empty"), "", "EmptyCheckpoint"),
        (str(tree / "escaping"), "model.safetensors.index.json", "PathEscapes"),
        (str(tree / "pickled"), "pytorch_model.bin", "UnsafeFormat"),
        (str(tree / "truncated"), "model.safetensors", "TruncatedFile"),
    ]
    details = {r["error"]: r["detail"] for r in rows}
    assert "at most" in details["HeaderTooLarge"]
    assert "holds no safetensors file" in details["EmptyCheckpoint"]
    assert "../../etc/passwd" in details["PathEscapes"]
    assert "pickle" in details["UnsafeFormat"]
    assert "bytes" in details["TruncatedFile"]
    assert len(report.problems) == 5
    assert not (tree / "pickled" / "pwned").exists()
    assert all(folder.is_dir() for folder in good)
    before = catalog.path.read_bytes()
    assert scan(catalog, [str(tree)]).unchanged == 7
    assert catalog.path.read_bytes() == before


def test_text_that_is_no_unicode_costs_its_file_and_not_the_scan(tmp_path, catalog):
    config = r'{"model_type": "\ud800", "architectures": ["\udfff"], "x": "\u0000"}'
    tiny(tmp_path / "t" / "a", 1.0, config)
    tiny(tmp_path / "t" / "b", 2.0)
    report = scan(catalog, [str(tmp_path / "t")])
    assert names(report) == ["a", "b"]
    assert [(p.file, p.error) for p in report.problems] == [("config.json", "BadDocument")]


@pytest.mark.parametrize(
    "config",
    [
        '{"model_type": 7, "architectures": "LlamaForCausalLM"}',
        '{"model_type": {"a": []}, "architectures": [[1, {"b": null}]]}',
        '{"architectures": [], "_name_or_path": ["x"]}',
        '{"architectures": null, "tie_word_embeddings": "yes", "x": NaN, "y": 1e999}',
        '{"text_config": [], "torch_dtype": 3, "_name_or_path": "' + "x" * 5000 + '"}',
        "[]",
        "",
    ],
)
def test_odd_configs_are_stored_or_are_problems(tmp_path, catalog, config):
    tiny(tmp_path / "m", 1.0, config)
    assert names(scan(catalog, [str(tmp_path / "m")])) == ["m"]
    assert len(catalog.rows("select * from models where status = 'full'")) == 1


def test_names_that_steer_terminals_are_stored_escaped(tmp_path, catalog):
    tree = tmp_path / "t"
    tiny(tree / "red \x1b[31m", 1.0)
    os.mkdir(os.fsencode(tree) + b"/not \xff utf-8")
    for file in ("model.safetensors", "config.json"):
        shutil.copy(
            tree / "red \x1b[31m" / file, os.fsencode(tree) + b"/not \xff utf-8/" + file.encode()
        )
    report = scan(catalog, [str(tree)])
    assert report.scanned == 2
    assert all(m.name.isprintable() for m in report.models)
    assert scan(catalog, [str(tree)]).unchanged == 2


def test_a_layer_of_an_absurd_number_is_no_layer(tmp_path, catalog):
    one = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    two = {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}
    header = {"layers.99999999999999999999.w": one, "layers.3.w": two}
    raw(tmp_path / "m", header, bytes(8))
    assert names(scan(catalog, [str(tmp_path / "m")])) == ["m"]
    rows = catalog.rows("select layer from tensors order by name")
    assert [r["layer"] for r in rows] == [3, None]


def test_pipes_folders_and_links_in_the_place_of_files_are_problems(tmp_path, catalog):
    tree = tmp_path / "t"
    tiny(tree / "good")
    for name in ("pipe", "folder", "dangling", "circle", "outside"):
        tiny(tree / name)
        (tree / name / "model.safetensors").unlink()
    os.mkfifo(tree / "pipe" / "model.safetensors")
    (tree / "folder" / "model.safetensors").mkdir()
    (tree / "dangling" / "model.safetensors").symlink_to("nowhere")
    (tree / "circle" / "model.safetensors").symlink_to("model.safetensors")
    shutil.copy(tree / "good" / "model.safetensors", tmp_path / "secret.safetensors")
    (tree / "outside" / "model.safetensors").symlink_to(tmp_path / "secret.safetensors")
    (tree / "good" / "loop").symlink_to(tree)
    report = scan(catalog, [str(tree)])
    assert names(report) == ["good"]
    errors = {os.path.basename(p.address): p.error for p in report.problems}
    assert errors["pipe"] == "Unreadable"
    assert errors["dangling"] == errors["circle"] == "MissingShard"
    assert errors["outside"] == "PathEscapes"


def test_companions_that_cannot_be_read_leave_the_weights_usable(tmp_path, catalog):
    folder = tiny(tmp_path / "m")
    (folder / "README.md").write_bytes(b"---\nbase_model: [\n---\n\xff\xfe")
    (folder / "tokenizer.json").write_text("{")
    (folder / "homolog.json").write_text('{"format": 3}')
    (folder / "mergekit_config.yml").write_text("&a [*a, *a]")
    (folder / "model-index.yaml").write_text("x")
    report = scan(catalog, [str(folder)])
    assert names(report) == ["m"]
    assert sorted(p.file for p in report.problems) == [
        "README.md",
        "homolog.json",
        "mergekit_config.yml",
        "tokenizer.json",
    ]
    assert all(p.detail for p in report.problems)


def test_an_adapter_that_lost_its_config_is_no_model(tmp_path, catalog):
    folder = save_adapter(tmp_path / "adapter", "../../../../etc/passwd")
    assert [m.name for m in scan(catalog, [str(folder)]).models] == ["adapter"]
    (row,) = catalog.rows("select kind, base from models where status <> 'latent'")
    assert row == {"kind": "adapter", "base": "../../../../etc/passwd"}
    (folder / "adapter_config.json").write_text("[" * 10_000)
    report = scan(catalog, [str(folder)])
    assert [p.error for p in report.problems] == ["BadDocument"]
    assert catalog.rows("select kind from models where len(addresses) > 0") == [{"kind": "adapter"}]


FILES = (
    "model.safetensors", "config.json", "README.md", "model.safetensors.index.json",
    "adapter_config.json", "tokenizer.json", "homolog.json", "mergekit_config.yml",
    "results.json", "vocab.txt", "generation_config.json",
)  # fmt: skip
PIECES = st.sampled_from(
    [
        b"{", b"}", b"[", b"]", b'"', b":", b",", b"null", b"-", b"1e999", b"\xff", b"\0", b"---\n",
        b"base_model", b"weight_map", b"model-index", b"results", b"metrics", b"parents",
        b"homolog-sidecar-1", b'"format"', b"digest", b"models", b"merge_method", b"\\ud800",
        b"../", b"a" * 50, b"\n", b" ", b"- ", b"*a", b"&a", b"!!python/object:os.system",
    ]
)  # fmt: skip


FOLDER = st.dictionaries(
    st.sampled_from(FILES),
    st.binary(max_size=60) | st.lists(PIECES, max_size=12).map(b"".join),
    min_size=1,
    max_size=4,
)


@settings(max_examples=5)
@given(st.lists(FOLDER, min_size=12, max_size=12))
def test_whatever_the_files_hold_the_neighbour_is_indexed(
    tmp_path_factory, _empty_catalog, folders
):
    tree = tmp_path_factory.mktemp("fuzz")
    tiny(tree / "good")
    for i, files in enumerate(folders):
        folder = tiny(tree / f"bad-{i}", i + 2.0)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    catalog = Catalog(tree / "catalog.duckdb")
    catalog.path.write_bytes(_empty_catalog)
    report = scan(catalog, [str(tree)])
    assert "good" in names(report)
    assert report.scanned == 13
    named = {os.path.basename(p.address) for p in report.problems} | set(names(report))
    assert len(named) == 13
    assert all(p.error and p.detail for p in report.problems)
    assert scan(catalog, [str(tree)]).problems == report.problems
    shutil.rmtree(tree)

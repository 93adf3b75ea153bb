"""Verifying: bytes, sidecar, metadata and catalog agree, or what differs is named."""

import json
import shutil
import subprocess
import sys

import pytest
from conftest import save_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.merge import merge
from engine.options import Options
from engine.recipe import Part, Recipe
from engine.verify import verify
from registry.catalog import Catalog
from registry.errors import UnknownModel
from registry.header import read_header
from registry.scan import scan


@pytest.fixture(scope="module")
def made(_scanned, tmp_path_factory):
    """A sharded merge and the catalog that knows it; read-only."""
    root = tmp_path_factory.mktemp("made")
    path = shutil.copy(_scanned, root / "catalog.duckdb")
    recipe = Recipe("ties", (Part("chat"), Part("math")))
    merged = merge(Catalog(path), recipe, root / "out", options=Options(shard_bytes=4000))
    return merged, path


@pytest.fixture
def out(made, tmp_path):
    """A copy of the merge that may be changed."""
    return shutil.copytree(made[0].folder, tmp_path / "out")


@pytest.fixture
def nowhere(tmp_path):
    """A catalog that does not exist."""
    return Catalog(tmp_path / "no" / "catalog.duckdb")


@pytest.fixture
def known(made, tmp_path):
    """A copy of the catalog that may be changed."""
    return Catalog(shutil.copy(made[1], tmp_path / "known.duckdb"))


def shard_of(folder, i=1):
    return sorted(folder.glob("*.safetensors"))[i]


def flip(file, place, bits=1):
    content = bytearray(file.read_bytes())
    content[place] ^= bits
    file.write_bytes(content)


def whats(found):
    return {(d.what, d.where) for d in found.differences}


def test_a_fresh_merge_agrees_with_everything(made, known):
    merged = made[0]
    found = verify(known, str(merged.folder))
    assert (found.ok, found.differences, found.model) == (True, (), merged.model)
    assert found.checked == ("file format", "sidecar", "metadata", "catalog")
    assert verify(known, merged.model[:12]) == verify(known, "out") == found


def test_no_catalog_is_needed(out, made, nowhere):
    found = verify(nowhere, str(out))
    assert found.ok
    assert found.model == made[0].model
    assert found.checked == ("file format", "sidecar", "metadata")
    assert not nowhere.path.exists()


def test_progress_counts_every_byte(out, nowhere):
    class Counts:
        total = done = 0

        def start(self, what, total_bytes):
            self.total = total_bytes

        def advance(self, n_bytes):
            self.done += n_bytes

    progress = Counts()
    verify(nowhere, str(out), jobs=1, progress=progress)
    assert progress.done == progress.total > 0


def test_a_model_that_is_no_merge_is_compared_with_the_catalog(shelf, family):
    found = verify(shelf, "chat")
    assert (found.ok, found.checked, found.folder) == (
        True,
        ("file format", "catalog"),
        family.chat,
    )


@pytest.mark.parametrize("which", ["with", "without"])
def test_a_flipped_bit_of_a_weight_names_tensor_and_file(which, out, made, known, nowhere):
    shard = shard_of(out)
    header = read_header(shard)
    tensor = header.tensors[1]
    flip(shard, tensor.start + 3)
    catalog = nowhere
    if which == "with":
        catalog = known
        with known.write() as transaction:
            transaction.execute(
                "update store.address set root = ? where model_id = ?", [str(out), made[0].model]
            )
    found = verify(catalog, str(out))
    assert not found.ok
    assert found.model != made[0].model
    assert whats(found) == {("tensor", tensor.name), ("model", "homolog.json")}
    sources = ["the sidecar says", "the catalog says"][: 1 + (which == "with")]
    details = [d.detail for d in found.differences if d.what == "tensor"]
    assert len(details) == len(sources)
    assert all(
        d.startswith(f"{shard.name} holds ") and s in d
        for d, s in zip(details, sources, strict=True)
    )


@given(data=st.data())
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_flipped_bit_of_any_shard_is_found(data, made, nowhere, tmp_path_factory):
    folder = tmp_path_factory.mktemp("flipped") / "out"
    shutil.copytree(made[0].folder, folder)
    shard = shard_of(folder, data.draw(st.integers(0, 2)))
    header = read_header(shard)
    head = len(shard.read_bytes()[: header.data_start].rstrip())  # blanks at its end may be others
    end = data.draw(st.sampled_from([head, header.file_bytes]))
    places = st.integers(0, end - 1).filter(lambda i: not head <= i < header.data_start)
    place = data.draw(places)
    flip(shard, place, 1 << data.draw(st.integers(0, 7)))
    assert not verify(nowhere, str(folder)).ok


def test_metadata_of_a_single_shard_is_compared(out, nowhere):
    shard = shard_of(out, 2)
    content = shard.read_bytes()
    assert content.count(b'\\"seed\\":0') == 1
    shard.write_bytes(content.replace(b'\\"seed\\":0', b'\\"seed\\":7'))
    found = verify(nowhere, str(out))
    assert whats(found) == {("metadata", shard.name)}


def test_metadata_that_is_not_ours_is_a_difference(out, nowhere):
    shard = shard_of(out, 0)
    content = shard.read_bytes()
    shard.write_bytes(content.replace(b'"format":"pt"', b'"fermat":"pt"'))
    found = verify(nowhere, str(out))
    assert [d.detail for d in found.differences] == [
        "its 'fermat' is not what the sidecar says", "its 'format' is not what the sidecar says",
    ]  # fmt: skip


def edited(folder, **changes):
    file = folder / "homolog.json"
    document = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**document, **changes}), encoding="utf-8")
    return document


def test_an_edited_sidecar_is_found(out, made, nowhere):
    before = edited(out)
    shards = {("metadata", file.name) for file in out.glob("*.safetensors")}
    sidecar = ("sidecar", "homolog.json")
    cases = [
        ({"recipe": {**before["recipe"], "seed": 1}}, {sidecar, *shards}),
        ({"recipe_digest": "0" * 64}, {sidecar, *shards}),
        ({"parents": before["parents"][:1]}, shards),
        ({"engine_version": "9.9"}, shards),
        ({"model": "0" * 64}, {("model", "homolog.json")}),
        ({"model": None}, {("model", "homolog.json")}),
        ({"tensors": {**before["tensors"], "more": "0" * 64}}, {("tensor", "more")}),
        ({"tensors": {**before["tensors"], "lm_head.weight": 3}}, {("tensor", "lm_head.weight")}),
        ({"tensors": [1]}, {sidecar}),
        ({"parents": "x", "recipe": None}, {sidecar, *shards}),
        ({"format": "other"}, {sidecar}),
    ]
    for changes, expected in cases:
        edited(out, **{**before, **changes})
        assert whats(verify(nowhere, str(out))) == expected, changes
    edited(out, **before)
    assert verify(nowhere, str(out)).ok


def test_a_tensor_the_sidecar_does_not_know_is_found(out, nowhere):
    tensors = edited(out)["tensors"]
    del tensors["lm_head.weight"]
    edited(out, tensors=tensors)
    (difference,) = verify(nowhere, str(out)).differences
    assert difference.what == "tensor"
    assert difference.detail.endswith("has it, the sidecar does not")


@pytest.mark.parametrize("how", ["gone", "malformed", "link"])
def test_a_sidecar_that_cannot_be_read_is_found(how, out, nowhere):
    file = out / "homolog.json"
    file.unlink()
    if how == "malformed":
        file.write_text("{", encoding="utf-8")
    elif how == "link":
        file.symlink_to("/proc/self/status")
    found = verify(nowhere, str(out))
    assert whats(found) == {("sidecar", "homolog.json")}


def test_a_missing_shard_is_found(out, nowhere):
    shard = shard_of(out)
    shard.unlink()
    found = verify(nowhere, str(out))
    assert (found.ok, found.model, found.n_tensors) == (False, "", 0)
    assert shard.name in found.differences[0].detail


def test_a_shortened_shard_is_found(out, nowhere):
    shard = shard_of(out)
    shard.write_bytes(shard.read_bytes()[:-1])
    (difference,) = verify(nowhere, str(out)).differences
    assert difference.what == "file"
    assert shard.name in difference.detail


def test_an_edited_recipe_of_the_catalog_is_found(made, known):
    with known.write() as transaction:
        transaction.execute(
            "update store.recipe set canonical = replace(canonical, 'ties', 'tiez')"
        )
    (difference,) = verify(known, made[0].model).differences
    assert (difference.what, difference.detail) == ("catalog", "its text was changed")


def test_a_lost_recipe_run_or_edge_of_the_catalog_is_found(made, known):
    with known.write() as transaction:
        transaction.execute("delete from store.recipe")
    assert [d.detail for d in verify(known, made[0].model).differences] == ["its text was changed"]
    with known.write() as transaction:
        transaction.execute("delete from store.edge where status = 'recorded' and role = 'base'")
        transaction.execute("update store.run set recipe = ?", ["0" * 64])
    found = verify(known, made[0].model)
    assert whats(found) == {
        ("catalog", "recipe 000000000000"),
        ("catalog", "runs"),
        ("catalog", "edges"),
    }


def test_an_edited_digest_of_the_catalog_is_found(made, known):
    with known.write() as transaction:
        transaction.execute(
            "update store.tensor set digest = 'x' where model_id = ? and name = 'lm_head.weight'",
            [made[0].model],
        )
    assert whats(verify(known, made[0].model)) == {("tensor", "lm_head.weight")}


def test_a_target_that_is_nowhere_is_named(shelf, nowhere, tmp_path):
    with pytest.raises(UnknownModel, match="neither on disk nor in a catalog"):
        verify(nowhere, str(tmp_path / "gone"))
    with pytest.raises(UnknownModel):
        verify(shelf, "nothing")


def test_a_tied_model_may_be_stored_with_and_without_its_head(catalog, family, tmp_path):
    weights = {n: t for n, t in family.weights["chat"].items() if n != "lm_head.weight"}
    copy = weights | {"lm_head.weight": weights["model.embed_tokens.weight"].clone()}
    config = {"tie_word_embeddings": True}
    folders = [
        save_model(tmp_path / "less", weights, config=config),
        save_model(tmp_path / "more", copy, config=config),
    ]
    for folder in folders:
        scan(catalog, [str(folder)])
    found = [verify(catalog, str(folder)) for folder in folders]
    assert [v.differences for v in found] == [(), ()]
    assert found[0].model == found[1].model


def test_a_link_to_a_known_folder_is_that_folder(made, known, tmp_path):
    (tmp_path / "link").symlink_to(made[0].folder)
    assert "catalog" in verify(known, str(tmp_path / "link")).checked


CUT = """
import os, sys
from pathlib import Path
import safetensors
from engine.verify import verify
from registry.catalog import Catalog

shard, real = Path(sys.argv[1]), safetensors.safe_open

class Cut:
    def __init__(self, file, **options):
        self.inner = real(file, framework="pt")
    def __enter__(self):
        os.truncate(shard, 0)  # a mapping of it has no pages from now on
        for name in self.inner.keys():
            self.inner.get_tensor(name)
        return self
    def __exit__(self, *_):
        pass

safetensors.safe_open = Cut
print(verify(Catalog(shard.parent.parent / "none.duckdb"), str(shard.parent)).ok)
"""


def test_a_shard_that_is_cut_short_under_the_reference_reader_does_not_kill_the_process(out):
    words = [sys.executable, "-c", CUT, str(shard_of(out, 0))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr)

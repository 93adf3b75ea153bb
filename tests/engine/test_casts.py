"""Casts: a model in a coarser dtype is found, a fine-tune is not."""

import pytest
import torch
from conftest import save_model, weights

from engine import casts
from engine.casts import is_cast, record_casts
from registry.checkpoint import read_checkpoint
from registry.scan import ensure, scan


def scanned(catalog, *folders):
    """Scan folders and give the ids of what is in them."""
    scan(catalog, [str(folder) for folder in folders])
    return [ensure(catalog, str(folder)) for folder in folders]


def edges(catalog):
    rows = catalog.rows(
        "select parent, child, status, confidence, role from store.edge where relation = 'cast'"
    )
    assert all(
        (r["status"], r["confidence"], r["role"]) == ("measured", 1.0, "parent") for r in rows
    )
    return {(row["parent"], row["child"]) for row in rows}


def cast(tensors, dtype):
    return {name: tensor.to(dtype) for name, tensor in tensors.items()}


@pytest.fixture
def half(family, tmp_path):
    """The original in float16."""
    return save_model(tmp_path / "half", cast(family.weights["original"], torch.float16))


def test_casts_are_found_with_one_edge_each_and_fine_tunes_are_not(catalog, family, half):
    folders = (family.original, family.base, half, family.chat, family.cpt, family.stranger)
    original, base, float16, *_ = ids = scanned(catalog, *folders)
    assert record_casts(catalog, ids) == 2
    assert edges(catalog) == {(original, base), (original, float16)}
    evidence = catalog.rows(
        "select method, statistic, value, scope from store.evidence where method = 'cast'"
    )
    assert (
        evidence
        == [{"method": "cast", "statistic": "equal_share", "value": 1.0, "scope": "full"}] * 2
    )
    assert record_casts(catalog, ids) == 0
    assert len(edges(catalog)) == 2


def test_only_pairs_with_a_new_model_are_looked_at(catalog, family, half):
    ids = scanned(catalog, family.original, family.base, half)
    assert record_casts(catalog, ids[2:]) == 1
    assert edges(catalog) == {(ids[0], ids[2])}
    assert record_casts(catalog, []) == 0


def test_a_cast_of_mixed_dtypes_is_a_cast(catalog, family, tmp_path):
    mixed = cast(family.weights["original"], torch.bfloat16)
    mixed["model.norm.weight"] = family.weights["original"]["model.norm.weight"]
    ids = scanned(catalog, family.original, save_model(tmp_path / "mixed", mixed))
    assert record_casts(catalog, ids) == 1
    assert edges(catalog) == {(ids[0], ids[1])}


def test_one_other_bit_is_no_cast(family, tmp_path):
    original = read_checkpoint(family.original)
    assert is_cast(original, read_checkpoint(family.base))
    assert is_cast(original, read_checkpoint(family.sharded))
    other = cast(family.weights["original"], torch.bfloat16)
    other["lm_head.weight"][3, 5] *= 1.01
    assert not is_cast(original, read_checkpoint(save_model(tmp_path / "other", other)))
    fewer = {name: t for name, t in family.weights["base"].items() if name != "lm_head.weight"}
    assert not is_cast(original, read_checkpoint(save_model(tmp_path / "fewer", fewer)))
    assert not is_cast(read_checkpoint(family.base), original)


def test_a_cast_is_compared_whole_slice_by_slice(family, monkeypatch):
    monkeypatch.setattr(casts, "_CHUNK", 7)
    assert is_cast(read_checkpoint(family.original), read_checkpoint(family.base))
    assert not is_cast(read_checkpoint(family.original), read_checkpoint(family.chat))


def test_many_models_of_one_signature_are_told_apart_by_samples(catalog, tmp_path, monkeypatch):
    fine = [weights(seed) for seed in range(4)]
    folders = [save_model(tmp_path / f"fine{i}", tensors) for i, tensors in enumerate(fine)]
    folders += [
        save_model(tmp_path / f"coarse{i}", cast(tensors, torch.bfloat16))
        for i, tensors in enumerate(fine)
    ]
    ids = scanned(catalog, *folders)
    compared = []
    whole = casts.is_cast
    monkeypatch.setattr(casts, "is_cast", lambda a, b: compared.append((a, b)) or whole(a, b))
    assert record_casts(catalog, ids) == len(compared) == 4
    assert edges(catalog) == set(zip(ids[:4], ids[4:], strict=True))


def test_models_that_differ_only_in_the_middle_are_not_compared_whole(
    catalog, family, tmp_path, monkeypatch
):
    other = cast(family.weights["original"], torch.bfloat16)
    other["lm_head.weight"].view(-1)[400] += 1
    ids = scanned(catalog, family.original, save_model(tmp_path / "other", other))
    monkeypatch.setattr(casts, "is_cast", lambda *_: pytest.fail("compared whole"))
    assert record_casts(catalog, ids) == 0


def test_files_that_are_gone_or_changed_cost_only_their_own_pairs(catalog, family, half, tmp_path):
    broken = save_model(tmp_path / "broken", cast(weights(9), torch.bfloat16))
    gone = save_model(tmp_path / "gone", cast(weights(10), torch.bfloat16))
    ids = scanned(catalog, family.original, half, broken, gone)
    (broken / "model.safetensors").write_bytes(b"x")
    for file in gone.iterdir():
        file.unlink()
    gone.rmdir()
    assert record_casts(catalog, ids) == 1

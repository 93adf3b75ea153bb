"""What `extract` writes is judged by peft and transformers: put on the base, it is the child again."""

import hashlib
import json
import os
import warnings
from types import SimpleNamespace

import pytest
import torch
from peft import PeftConfig, PeftModel
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from engine.adapter import wear
from engine.extract import METADATA_KEY, decompose, extract
from engine.reader import Reader
from engine.source import load
from registry.errors import BadParameter, FileChanged, NotMergeable
from registry.progress import Progress
from registry.scan import scan

FULL = 10**6
TOKENS = torch.arange(1, 13).reshape(2, 6)
SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
BERT = {**SIZES, "max_position_embeddings": 16}


def llama(**options):
    config = {**SIZES, "num_key_value_heads": 2, "tie_word_embeddings": False, **options}
    return LlamaForCausalLM(LlamaConfig(**config))


def tied_llama():
    return llama(tie_word_embeddings=True)


def biased_llama():
    return llama(attention_bias=True, mlp_bias=True)


def gpt2():
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=16)
    )


def bert():
    return BertForSequenceClassification(BertConfig(**BERT, num_labels=3))


def untied_bert():
    return BertForMaskedLM(BertConfig(**BERT, tie_word_embeddings=False))


AUTO = {
    llama: AutoModelForCausalLM,
    tied_llama: AutoModelForCausalLM,
    biased_llama: AutoModelForCausalLM,
    gpt2: AutoModelForCausalLM,
    bert: AutoModelForSequenceClassification,
    untied_bert: AutoModelForMaskedLM,
}
MAKERS = sorted(AUTO, key=lambda make: make.__name__)


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`")
        warnings.filterwarnings("ignore", message="Input and output embeddings are no longer tied")
        yield


def shaken(network, moves, scale=0.05):
    """Add noise to every parameter whose name ``moves`` accepts."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if moves(name):
                parameter.add_(scale * torch.randn(parameter.shape, generator=generator))


@pytest.fixture
def models(tmp_path):
    """Save a network and the same one after some of its weights moved: folders ``base`` and ``child``."""

    def make(maker, moves=bool):
        torch.manual_seed(0)
        network = maker()
        network.save_pretrained(tmp_path / "base")
        shaken(network, moves)
        network.save_pretrained(tmp_path / "child")
        return tmp_path / "base", tmp_path / "child"

    return make


@pytest.fixture
def taken(tmp_path, parent_at):
    """Write the adapter that holds the change from one folder to another; no catalog takes part."""

    def take(base, child, **options):
        new, changes, notes = decompose(parent_at(child), parent_at(base), jobs=1, **options)
        folder = tmp_path / "lora"
        folder.mkdir()
        new.write(folder, made_by="made by a test", metadata={})
        return SimpleNamespace(folder=folder, changes=changes, notes=notes)

    return take


@pytest.fixture
def extracted(catalog, tmp_path):
    """Extract one folder from another with both scanned before."""

    def run(base, child, output="lora", **options):
        scan(catalog, [str(base), str(child)], jobs=1)
        ids = catalog.find(str(child)), catalog.find(str(base))
        return extract(catalog, *ids, tmp_path / output, **{"jobs": 1, **options})

    return run


def weights_of(parent):
    with Reader() as reader:
        return {name: load(reader, source) for name, source in parent.tensors.items()}


def in_peft(auto, base, adapter):
    """A fresh base with the adapter on; any warning of peft, as of keys it misses, is an error."""
    return PeftModel.from_pretrained(auto.from_pretrained(base), adapter).eval()


def logits(network):
    with torch.no_grad():
        return network(TOKENS).logits


def deltas(base, child):
    """Tensor name → child - base, float64."""
    old, new = (load_file(folder / "model.safetensors") for folder in (base, child))
    return {name: new[name].double() - old[name].double() for name in sorted(new)}


@pytest.mark.parametrize("maker", MAKERS, ids=lambda m: m.__name__)
def test_at_full_rank_peft_computes_what_the_child_computes(maker, models, taken, parent_at):
    base, child = models(maker)
    made = taken(base, child, rank=FULL)
    old, whole = (AUTO[maker].from_pretrained(folder).eval() for folder in (base, child))
    adapted = in_peft(AUTO[maker], base, made.folder)
    assert (logits(old) - logits(whole)).abs().max() > 0.05
    torch.testing.assert_close(logits(adapted), logits(whole), rtol=1e-5, atol=1e-5)
    assert all(change.relative_error < 1e-6 for change in made.changes)
    assert not made.notes
    worn = weights_of(wear(parent_at(base), parent_at(made.folder)))
    for name, tensor in load_file(child / "model.safetensors").items():
        torch.testing.assert_close(worn[name], tensor, rtol=1e-5, atol=1e-6)
    assert {c.tensor for c in made.changes} == {
        n for n, d in deltas(base, child).items() if d.any()
    }


@pytest.mark.parametrize("maker", MAKERS, ids=lambda m: m.__name__)
def test_put_on_here_it_gives_the_tensors_that_peft_merges(maker, models, taken, parent_at):
    base, child = models(maker)
    made = taken(base, child, rank=2)
    merged = in_peft(AUTO[maker], base, made.folder).merge_and_unload().state_dict()
    found = weights_of(wear(parent_at(base), parent_at(made.folder)))
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, merged[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rank", [1, 7])
@pytest.mark.parametrize("maker", [llama, gpt2], ids=lambda m: m.__name__)
def test_at_a_rank_the_error_is_that_of_the_dropped_singular_values(
    rank, maker, models, taken, parent_at
):
    base, child = models(maker)
    made = taken(base, child, rank=rank)
    worn = weights_of(wear(parent_at(base), parent_at(made.folder)))
    new = load_file(child / "model.safetensors")
    moved = deltas(base, child)
    for change in made.changes:
        delta = moved[change.tensor]
        if change.action == "whole":
            assert torch.equal(worn[change.tensor], new[change.tensor])
            continue
        dropped = float(torch.linalg.svdvals(delta)[rank:].square().sum())
        expected = (dropped / float(delta.square().sum())) ** 0.5
        assert change.rank == rank
        assert change.delta_l2 == pytest.approx(float(delta.norm()), rel=1e-5)
        assert change.relative_error == pytest.approx(expected, rel=1e-4)
        left = new[change.tensor].double() - worn[change.tensor].double()
        assert float(left.norm() / delta.norm()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("cap", [0, 4])
@pytest.mark.parametrize("energy", [0.3, 0.8, 1.0])
def test_energy_takes_the_least_rank_that_keeps_it(energy, cap, models, taken):
    base, child = models(llama)
    made = taken(base, child, energy=energy, rank=cap)
    moved = deltas(base, child)
    for change in made.changes:
        if change.action != "low_rank":
            continue
        kept = torch.linalg.svdvals(moved[change.tensor]).square().cumsum(0)
        least = int((kept < energy * kept[-1] * (1 - 1e-12)).sum()) + 1
        assert change.rank == (min(least, cap) if cap else least)
        if not cap:
            assert change.relative_error**2 <= 1 - energy + 1e-9
    loaded = in_peft(AutoModelForCausalLM, base, made.folder)
    held = sorted(len(p) for n, p in loaded.named_parameters() if "lora_A" in n)
    assert held == sorted(c.rank for c in made.changes if c.rank)


def test_norms_embeddings_and_heads_are_whole_modules(models, taken):
    base, child = models(llama)
    made = taken(base, child, rank=2)
    config = PeftConfig.from_pretrained(made.folder)
    assert {"model.embed_tokens", "model.norm", "lm_head"} <= set(config.modules_to_save)
    new = load_file(child / "model.safetensors")
    held = load_file(made.folder / "adapter_model.safetensors")
    assert torch.equal(held["base_model.model.model.norm.weight"], new["model.norm.weight"])


def test_a_tied_head_moves_with_its_embedding(models, taken, parent_at):
    base, child = models(tied_llama, lambda name: "embed" in name or "q_proj" in name)
    made = taken(base, child, rank=FULL)
    config = PeftConfig.from_pretrained(made.folder)
    assert sorted(config.modules_to_save) == ["lm_head", "model.embed_tokens"]
    worn = weights_of(wear(parent_at(base), parent_at(made.folder)))
    assert torch.equal(worn["lm_head.weight"], worn["model.embed_tokens.weight"])


def test_a_tied_head_that_no_adapter_can_name_is_told_of(models, taken):
    base, child = models(lambda: BertForMaskedLM(BertConfig(**BERT)))
    (note,) = taken(base, child, rank=FULL).notes
    assert note.startswith("BertForMaskedLM ties other modules to bert.embeddings.word_embeddings")


def test_biases_of_layers_stand_beside_their_factors(models, taken):
    base, child = models(bert, lambda name: "query" in name or "intermediate" in name)
    made = taken(base, child, rank=FULL)
    config = PeftConfig.from_pretrained(made.folder)
    assert config.bias == "all"
    assert config.modules_to_save is None
    held = load_file(made.folder / "adapter_model.safetensors")
    at = "base_model.model.bert.encoder.layer.0.attention.self.query"
    assert set(held) >= {f"{at}.base_layer.bias", f"{at}.lora_A.weight", f"{at}.lora_B.weight"}


def test_weights_stored_the_other_way_round_are_turned(models, taken):
    base, child = models(gpt2)
    made = taken(base, child, rank=3)
    assert PeftConfig.from_pretrained(made.folder).fan_in_fan_out is True
    held = load_file(made.folder / "adapter_model.safetensors")
    at = "base_model.model.transformer.h.0.attn.c_attn"
    assert held[f"{at}.lora_A.weight"].shape == (3, 16)
    assert held[f"{at}.lora_B.weight"].shape == (48, 3)


def test_projections_only_leaves_the_rest_as_it_was(models, taken, parent_at):
    base, child = models(llama)
    made = taken(base, child, rank=FULL, projections_only=True)
    worn = weights_of(wear(parent_at(base), parent_at(made.folder)))
    old, new = (load_file(folder / "model.safetensors") for folder in (base, child))
    left = {c.tensor for c in made.changes if c.action == "left_out"}
    assert left == {n for n in new if "norm" in n or "embed" in n or "lm_head" in n}
    for name, tensor in worn.items():
        expected = (old if name in left else new)[name]
        torch.testing.assert_close(tensor, expected, rtol=1e-5, atol=1e-6)
    assert made.notes == [f"{len(left)} changed tensors that are no projections are left out"]


def test_what_did_not_move_is_not_in_the_adapter(models, taken):
    base, child = models(llama, lambda name: name.endswith("1.mlp.up_proj.weight"))
    made = taken(base, child, rank=2)
    assert [c.tensor for c in made.changes] == ["model.layers.1.mlp.up_proj.weight"]
    assert len(load_file(made.folder / "adapter_model.safetensors")) == 2


def test_the_numbers_are_those_of_the_whole_change(models, extracted):
    base, child = models(llama, lambda name: "mlp" in name or "norm" in name)
    made = extracted(base, child, rank=3)
    moved = {name: delta for name, delta in deltas(base, child).items() if delta.any()}
    norm_sq = sum(float(delta.square().sum()) for delta in moved.values())
    dropped = sum(
        float(torch.linalg.svdvals(delta)[3:].square().sum())
        for name, delta in moved.items()
        if "mlp" in name
    )
    assert made.ranks == (3,)
    assert made.relative_error == pytest.approx((dropped / norm_sq) ** 0.5, rel=1e-4)
    held = load_file(made.folder / "adapter_model.safetensors")
    assert made.n_bytes == sum(tensor.nbytes for tensor in held.values())
    stored = load_file(child / "model.safetensors")
    assert made.child_bytes == sum(tensor.nbytes for tensor in stored.values())
    assert made.notes == ()


def test_the_files_of_both_stay_as_they_are(models, extracted):
    folders = models(llama)
    before = [_digests(folder) for folder in folders]
    extracted(*folders, rank=2)
    assert [_digests(folder) for folder in folders] == before


def _digests(folder):
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir()}


def test_the_result_does_not_depend_on_threads(models, extracted):
    folders = models(llama)
    one, two = (extracted(*folders, f"lora{n}", rank=3, jobs=n) for n in (1, 2))
    assert one.model == two.model
    assert _digests(one.folder) == _digests(two.folder)


def test_the_catalog_knows_where_it_came_from(models, extracted, catalog):
    base, child = models(llama)
    made = extracted(base, child, rank=2)
    sql = "select parent, relation, status from store.edge where child = ?"
    edges = catalog.rows(sql, [made.model])
    assert {"parent": made.base, "relation": "adapter", "status": "recorded"} in edges
    assert {edge["parent"] for edge in edges} == {made.base}
    sql = "select value, detail from store.evidence where child = ? and method = 'extract'"
    (evidence,) = catalog.rows(sql, [made.model])
    assert evidence["value"] == pytest.approx(made.relative_error)
    assert made.child[:12] in evidence["detail"]
    with safe_open(made.folder / "adapter_model.safetensors", "pt") as file:
        story = json.loads(file.metadata()[METADATA_KEY])
    assert (story["child"], story["base"], story["rank"]) == (made.child, made.base, 2)
    assert "relative error of the change" in (made.folder / "README.md").read_text()


def test_a_model_of_which_only_headers_are_known_is_read_whole(models, catalog, tmp_path):
    folders = models(llama, lambda name: "q_proj" in name)
    scan(catalog, list(map(str, folders)), jobs=1, headers_only=True)
    guesses = [catalog.find(str(folder)) for folder in folders]
    made = extract(catalog, guesses[1], guesses[0], tmp_path / "lora", rank=2)
    assert (made.base, made.child) == tuple(catalog.find(str(folder)) for folder in folders)
    assert {made.base, made.child}.isdisjoint(guesses)


def test_an_unchanged_child_is_refused_and_nothing_is_left(models, extracted, tmp_path):
    base, child = models(llama, lambda name: not name)
    with pytest.raises(NotMergeable, match="nothing to extract"):
        extracted(base, child, rank=2)
    base, child = models(llama, lambda name: "norm" in name)
    with pytest.raises(NotMergeable, match="no projection of child differs"):
        extracted(base, child, rank=2)
    assert {f.name for f in tmp_path.iterdir() if "lora" in f.name} == set()


def test_files_that_change_meanwhile_leave_nothing(models, extracted, tmp_path):
    class Meddler(Progress):
        def advance(self, n_done):
            os.utime(tmp_path / "base" / "model.safetensors", (1, 1))

    with pytest.raises(FileChanged, match="base changed while it was read"):
        extracted(*models(llama), rank=2, progress=Meddler())
    assert not (tmp_path / "lora").exists()


@pytest.mark.parametrize("asked", [{}, {"rank": -1}, {"energy": 1.5}, {"energy": float("nan")}])
def test_rank_and_energy_have_ranges(asked, make_parent):
    model = make_parent("model", {"l.weight": torch.zeros(2, 2)})
    with pytest.raises(BadParameter, match="rank of at least 1"):
        decompose(model, model, **asked)


def test_adapters_are_no_models_to_extract_from(models, taken, parent_at):
    base, child = models(llama, lambda name: "q_proj" in name)
    made = taken(base, child, rank=1)
    with pytest.raises(NotMergeable, match="lora is an adapter"):
        decompose(parent_at(made.folder), parent_at(base), rank=1)
    with pytest.raises(NotMergeable, match="lora is an adapter"):
        decompose(parent_at(child), parent_at(made.folder), rank=1)

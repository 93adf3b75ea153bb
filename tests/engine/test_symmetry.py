"""Symmetries: networks compute the same when the units that are found change places, and nothing else is found."""

import json

import pytest
import torch
from networks import NETWORKS, network, outputs, shuffled
from safetensors.torch import load_file, save_file

from engine.symmetry import groups
from registry.errors import NotMergeable

HEADS = {
    "llama", "llama-tied", "qwen2", "qwen3", "olmo2", "phi3", "mixtral", "gpt2", "opt", "bert",
    "bert-classifier", "distilbert", "vit",
}  # fmt: skip
WEIGHTS = "model.safetensors"
REFUSED = {"neox": "attention.dense.*is not known", "mixtral": "gate.weight.*is not known"}
ROTARY = {"llama", "llama-tied", "qwen2", "qwen3", "olmo2", "phi3", "mixtral"}


@pytest.fixture
def saved(tmp_path):
    """Config and tensors of a network as they are saved."""

    def save(name):
        made = network(name)
        made.save_pretrained(tmp_path / "saved")
        return made, read_config(tmp_path / "saved"), load_file(tmp_path / "saved" / WEIGHTS)

    return save


def read_config(folder):
    return json.loads((folder / "config.json").read_text())


def found_in(config, tensors, **options):
    return groups(config, {name: tuple(t.shape) for name, t in tensors.items()}, **options)


@torch.no_grad()
def run_with(folder, made, tensors):
    """What the network computes with other tensors."""
    save_file(tensors, folder / "saved" / WEIGHTS, metadata={"format": "pt"})
    return outputs(type(made).from_pretrained(folder / "saved").eval())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("residual", [False, True], ids=["blocks", "residual"])
def test_a_network_whose_units_change_places_computes_the_same(name, residual, saved, tmp_path):
    made, config, tensors = saved(name)
    if residual and name in REFUSED:
        with pytest.raises(NotMergeable, match=REFUSED[name]):
            found_in(config, tensors, residual=True)
        return
    moved = shuffled(tensors, found_in(config, tensors, residual=residual), seed=3)
    assert any(not torch.equal(moved[n], tensors[n]) for n in tensors)
    torch.testing.assert_close(run_with(tmp_path, made, moved), outputs(made), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_found(name, saved):
    _, config, tensors = saved(name)
    found = found_in(config, tensors)
    kinds = [group.name.rsplit(".", 1)[-1] for group in found]
    assert kinds.count("neurons") == (4 if name == "mixtral" else 2)
    assert kinds.count("heads") == (2 if name in HEADS else 0)
    for group in found:
        if group.name.endswith("heads"):
            assert len(group.inner) == (2 if name in ROTARY else 3)  # query heads, keys, values
            assert group.n == (2 if name in ROTARY else 3)

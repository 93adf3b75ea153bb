"""Networks are loaded by transformers, and what it refuses has a name."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from engine.network import load_network
from registry.errors import UnknownModel, Unreadable
from registry.scan import scan

ZOO = Path(__file__).parents[2] / "data" / "zoo"


def test_an_adapter_is_put_on_its_base(catalog):
    scan(catalog, [str(ZOO / "base"), str(ZOO / "upper-lora")], jobs=1)
    _, plain = load_network(catalog, catalog.find("base"))
    tokenizer, adapted = load_network(catalog, catalog.find("upper-lora"))
    ids = tokenizer("upp stone=", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        assert not torch.allclose(plain(ids).logits, adapted(ids).logits)
    assert tokenizer.pad_token_id is not None


def test_an_adapter_without_its_base_is_named(catalog):
    scan(catalog, [str(ZOO / "upper-lora")], jobs=1)
    with pytest.raises(UnknownModel, match="the base of adapter upper-lora is not in the catalog"):
        load_network(catalog, catalog.find("upper-lora"))


def test_what_transformers_cannot_load_is_named(catalog, family, tmp_path):
    shutil.copytree(family.base, tmp_path / "odd")
    config = json.loads((tmp_path / "odd" / "config.json").read_text()) | {
        "model_type": "no-such-thing"
    }
    (tmp_path / "odd" / "config.json").write_text(json.dumps(config))
    scan(catalog, [str(tmp_path / "odd")], jobs=1)
    with pytest.raises(
        Unreadable, match=r"transformers cannot load .*odd as a causal language model"
    ):
        load_network(catalog, catalog.find(str(tmp_path / "odd")))

"""Checkpoints of the Hub: the headers come, the bytes behind them when they are asked for."""

import pytest
import torch
from conftest import save_model
from safetensors.torch import load_file

from registry.errors import CorruptCheckpoint, DamagedDownload, Unreadable
from registry.hub import Hub
from registry.hub_requests import Requests
from registry.remote import opened, places
from registry.scan import scan


@pytest.fixture
def asked(hub):
    """A client of the Hub."""
    with Requests() as requests:
        yield Hub(requests)


def the_place(catalog, name):
    (place,) = places(catalog, [catalog.find(name)]).values()
    return place


@pytest.mark.parametrize("inside", ["", "nested/deeper"])
def test_tensors_have_their_bytes_on_the_hub(hub, asked, family, catalog, inside):
    before = f"{inside}/" if inside else ""
    files = {before + f.name: f.read_bytes() for f in family.sharded.iterdir()}
    hub.add("org/sharded", files)
    scan(catalog, ["hf://org/sharded"])
    place = the_place(catalog, "org/sharded" + (f"/{inside}" if inside else ""))
    assert place.inside == inside
    hub.log.clear()
    with opened(asked, place) as remote:
        found = {}
        for ref in remote.checkpoint.tensors:
            raw = remote.part(ref.file, ref.start, ref.start + ref.n_bytes)
            found[ref.name] = torch.frombuffer(bytearray(raw), dtype=torch.bfloat16)
        assert remote.header_bytes < 50_000
    assert len(hub.log.find("config.json")) == 0
    expected = family.weights["base"]
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name].flatten()) for name in expected)


def test_a_bare_file_is_a_checkpoint(hub, asked, family, catalog):
    content = (family.base / "model.safetensors").read_bytes()
    hub.add("org/bare", {"one.safetensors": content, "two.safetensors": content})
    scan(catalog, ["hf://org/bare"])
    place = the_place(catalog, "org/bare/one.safetensors")
    assert (place.is_file, place.inside) == (True, "one.safetensors")
    with opened(asked, place) as remote:
        ref = remote.checkpoint.tensors[0]
        raw = remote.part(ref.file, ref.start, ref.start + ref.n_bytes)
    want = load_file(family.base / "model.safetensors")[ref.name]
    assert raw == want.view(torch.uint8).numpy().tobytes()


def test_with_config_it_is_as_whole_as_a_folder(hub, asked, family, catalog):
    hub.add("org/base", family.base)
    scan(catalog, ["hf://org/base"])
    with opened(asked, the_place(catalog, "org/base"), with_config=True) as remote:
        assert remote.checkpoint.config["model_type"] == "llama"
        assert not remote.checkpoint.tied
        folder = remote.checkpoint.root
    assert not folder.exists()


def test_other_tensors_than_were_scanned_are_refused(hub, asked, family, catalog, tmp_path):
    hub.add("org/base", family.base)
    scan(catalog, ["hf://org/base"])
    with catalog.write() as transaction:
        transaction.execute("update store.model set signature = 'another'")
    place = the_place(catalog, "org/base")
    with pytest.raises(DamagedDownload, match="not those that were scanned"), opened(asked, place):
        pass


def test_what_is_wrong_is_said_of_the_place_on_the_hub(hub, asked, family, catalog, monkeypatch):
    hub.add("org/base", family.base)
    scan(catalog, ["hf://org/base"])
    place = the_place(catalog, "org/base")
    monkeypatch.setattr("registry.hub_stage._header", lambda *_: bytes(range(64)))
    with pytest.raises(CorruptCheckpoint) as wrong, opened(asked, place):
        pass
    assert wrong.value.message.startswith(f"{place.uri}/model.safetensors: ")


def test_models_that_are_not_on_the_hub_have_no_place(family, catalog, tmp_path):
    save_model(tmp_path / "m", family.weights["base"])
    scan(catalog, [str(tmp_path / "m")])
    assert places(catalog, [catalog.find("m")]) == {}


def test_gguf_is_left_where_it_is(hub, asked, catalog):
    hub.add("org/quantised", {"model.gguf": b"GGUF" + bytes(60)})
    scan(catalog, ["hf://org/quantised"])
    (uri,) = (r["uri"] for r in catalog.rows("select uri from store.address"))
    (model,) = (r["model_id"] for r in catalog.rows("select model_id from store.address"))
    with pytest.raises(Unreadable, match=f"{uri}: is GGUF"), opened(asked, places(catalog, [model])[model]):  # fmt: skip
        pass

"""What the catalog knows of the models that take part."""

import shutil

import pytest

from engine.lookup import identify, load_parent
from registry.errors import BadAddress, CorruptCheckpoint, FileChanged, UnknownModel
from registry.scan import scan


def test_a_parent_has_its_name_files_and_digests(shelf, family):
    model = shelf.find("chat")
    parent = load_parent(shelf, model)
    assert (parent.id, parent.name, parent.checkpoint.root) == (model, "chat", family.chat)
    assert parent.digests.keys() == family.weights["chat"].keys()


def test_a_path_a_name_and_an_id_name_one_model(shelf, family):
    model = identify(shelf, "chat")
    assert identify(shelf, str(family.chat)) == identify(shelf, model[:12]) == model


def test_a_path_is_scanned_when_it_is_new(catalog, family):
    model = identify(catalog, str(family.chat))
    assert load_parent(catalog, model).digests


def test_a_model_of_which_only_headers_are_known_is_read_whole(catalog, shelf, family):
    scan(catalog, [str(family.base), str(family.chat)], headers_only=True)
    assert identify(catalog, "chat") == shelf.find("chat")
    assert catalog.rows("select status from store.model order by 1") == [
        {"status": "full"},
        {"status": "header"},
    ]


def test_models_that_cannot_take_part_are_named(shelf, family, tmp_path):
    with pytest.raises(UnknownModel, match="'chatt'") as caught:
        identify(shelf, "chatt")
    assert caught.value.hint == "did you mean chat?"
    broken = shutil.copytree(family.chat, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no header")
    with pytest.raises(CorruptCheckpoint, match="broken"):
        identify(shelf, str(broken))


def test_files_that_are_gone_or_changed_are_named(shelf, family, tmp_path):
    copy = shutil.copytree(family.stranger, tmp_path / "copy")
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    model = identify(shelf, str(copy))
    (copy / "model.safetensors").touch()
    with pytest.raises(FileChanged, match="copy"):
        load_parent(shelf, model)
    shutil.rmtree(copy)
    with pytest.raises(BadAddress, match="copy"):
        load_parent(shelf, model)

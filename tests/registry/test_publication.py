"""What would be pushed, decided without asking anybody."""

import json
import socket

import pytest
from conftest import save_adapter, save_model

from registry.errors import BadDocument, BadParameter, FileChanged, LicenseConflict
from registry.hub_push import Target
from registry.publication import Asked, publication
from registry.scan import scan

TARGET = Target("me/model")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def planned(catalog):
    """Scan folders, decide what of the last is pushed."""

    def plan(*folders, **asked):
        scan(catalog, [str(f) for f in folders])
        return publication(catalog, catalog.find(str(folders[-1])), TARGET, Asked(**asked))

    return plan


def paths(made):
    return [upload.path for upload in made.uploads]


def content(made, path):
    (found,) = [u for u in made.uploads if u.path == path]
    return found.content if isinstance(found.content, bytes) else found.content.read_bytes()


def test_what_the_model_is_loaded_from_goes_and_the_rest_stays(planned, family, tmp_path):
    folder = save_model(
        tmp_path / "mine", family.weights["chat"], card="license: mit\ndatasets: [a/b]", shards=3
    )
    for name in (
        "generation_config.json",
        "LICENSE",
        "preprocessor_config.json",
        "tokenizer_config.json",
    ):
        (folder / name).write_text("{}")
    stay = [
        "optimizer.pt",
        "trainer_state.json",
        "results_1.json",
        "notes.md",
        ".env",
        "modeling_x.py",
        "x.gguf",
    ]
    for name in stay:
        (folder / name).write_text("{}")
    (folder / "consolidated.safetensors").write_bytes(
        (family.base / "model.safetensors").read_bytes()
    )
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text("{}")
    made = planned(folder)
    shards = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    assert paths(made) == sorted([
        "1_Pooling/config.json", "LICENSE", "README.md", "config.json", "generation_config.json", *shards,
        "model.safetensors.index.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json",
    ])  # fmt: skip
    assert sorted(made.left) == sorted([*stay, "consolidated.safetensors"])
    assert made.n_bytes == sum(u.size_bytes for u in made.uploads)
    assert "datasets:\n- a/b" in made.card
    assert content(made, "README.md").decode() == made.card
    for path in (*shards, "config.json", "tokenizer.json"):
        assert content(made, path) == (folder / path).read_bytes()


def test_code_goes_where_the_config_needs_it(planned, family, tmp_path):
    folder = save_model(
        tmp_path / "mine", family.weights["chat"], config={"auto_map": {"AutoModel": "m.M"}}
    )
    (folder / "m.py").write_text("")
    assert "m.py" in paths(planned(folder))


def test_no_folder_of_this_machine_goes_along(planned, family, tmp_path):
    config = {"_name_or_path": str(tmp_path / "secret" / "base")}
    folder = save_model(
        tmp_path / "mine", family.weights["chat"], config=config, card="base_model: base"
    )
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_file": str(tmp_path / "t.json")})
    )
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    made = planned(family.base, folder)
    for upload in made.uploads:
        assert str(tmp_path).encode() not in content(made, upload.path)
    assert json.loads(content(made, "config.json"))["_name_or_path"] == "base"
    assert json.loads(content(made, "tokenizer_config.json"))["tokenizer_file"] == "t.json"
    assert any("_name_or_path is 'base' on the Hub" in note for note in made.notes)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert any(w.startswith("base: on this machine only") for w in made.warnings)
    assert made.parents[0].repository is None


def test_an_adapter_names_its_base_as_the_hub_does(planned, family, tmp_path):
    base = save_model(tmp_path / "models" / "base", family.weights["base"])
    adapter = save_adapter(tmp_path / "adapter", str(base))
    (adapter / "README.md").write_text("---\nbase_model: org/base\n---\n")
    made = planned(base, adapter)
    assert json.loads(content(made, "adapter_config.json"))["base_model_name_or_path"] == "org/base"
    assert paths(made) == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    assert "library_name: peft" in made.card
    assert "base_model_relation: adapter" in made.card


def test_a_card_that_names_a_folder_that_is_there_is_warned_of(planned, family, tmp_path):
    folder = save_model(tmp_path / "mine", family.weights["chat"])
    (folder / "README.md").write_text(f"trained from `{family.base}` with /v1/chat/completions")
    (warning,) = planned(folder).warnings
    assert warning == f"the card names folders of this machine: {family.base}"


def test_another_card_can_be_given(planned, family, tmp_path):
    card = tmp_path / "card.md"
    card.write_text("---\nlanguage: [de]\n---\n# Other words\n")
    made = planned(family.chat, card=card)
    assert "# Other words" in made.card
    assert "- de" in made.card
    assert "# A model" not in made.card
    card.write_text("---\nlanguage: [de\n---\n")
    with pytest.raises(BadDocument):
        planned(family.chat, card=card)


def test_a_bare_file_goes_with_a_card(planned, family, tmp_path):
    file = tmp_path / "alone.safetensors"
    file.write_bytes((family.chat / "model.safetensors").read_bytes())
    (tmp_path / "README.md").write_text("of something else")
    made = planned(file)
    assert paths(made) == ["README.md", "alone.safetensors"]
    assert "something else" not in made.card


def test_files_that_are_not_those_that_were_scanned_are_refused(planned, catalog, family, tmp_path):
    folder = save_model(tmp_path / "mine", family.weights["chat"])
    made = planned(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(FileChanged):
        publication(catalog, made.model, TARGET)


def test_a_model_of_which_only_headers_were_read_is_refused(catalog, family):
    scan(catalog, [str(family.chat)], headers_only=True)
    with pytest.raises(BadParameter, match="only its headers were read"):
        publication(catalog, catalog.find("chat"), TARGET)


def test_a_licence_conflict_is_refused_without_a_reason(planned, family, tmp_path):
    base = save_model(tmp_path / "base", family.weights["base"], card="license: llama3.1")
    card = "license: gpl-3.0\nbase_model: base\nbase_model_relation: finetune"
    child = save_model(tmp_path / "child", family.weights["chat"], card=card)
    with pytest.raises(LicenseConflict) as caught:
        planned(base, child)
    assert "--allow-license-conflict REASON" in caught.value.hint
    made = planned(base, child, allow_license_conflict="a test")
    assert made.allowed == "a test"
    assert "passed on nevertheless: a test" in made.card
    assert planned(base, allow_license_conflict="not needed").allowed is None


def test_a_sidecar_of_another_model_is_refused(planned, family, tmp_path):
    folder = save_model(tmp_path / "mine", family.weights["chat"])
    (folder / "homolog.json").write_text(
        json.dumps({"format": "homolog-sidecar-1", "model": "ab" * 32})
    )
    with pytest.raises(BadDocument, match="tells of the model abababababab"):
        planned(folder)


def test_what_an_earlier_push_left_is_known(planned, family):
    made = planned(family.chat)
    gone = ("model-00001-of-00002.safetensors", "model.safetensors.index.json", "homolog.json",
            ".eval_results/homolog-a-b.yaml", "adapter_config.json")  # fmt: skip
    kept = (
        ".gitattributes",
        "onnx/model.safetensors",
        "notes.txt",
        ".eval_results/theirs.yaml",
        "x.gguf",
    )
    assert all(made.contradicts(path) for path in gone)
    assert not any(made.contradicts(path) for path in kept)

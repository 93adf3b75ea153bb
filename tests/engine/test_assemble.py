"""Assembling: texts become ids, ids become parents."""

import shutil

import pytest
from safetensors.torch import load_file, save_file

from engine.assemble import decide, pin_down, state_of
from engine.merge import merge
from engine.recipe_file import recipe_from_text
from registry.errors import BadAddress, NotHomologous, UnknownModel
from registry.scan import scan


def pinned(shelf, text):
    return pin_down(shelf, recipe_from_text(text), allow_unrelated=False)


def test_models_are_pinned_by_id_and_the_base_is_found(shelf):
    found = pinned(shelf, "merge_method: ties\nmodels: [chat, math]\n")
    assert list(found.models) == [shelf.find("chat"), shelf.find("math")]
    assert found.base == shelf.find("base")
    plan = decide(shelf, found)
    assert [parent.name for parent in plan.parents] == ["base", "chat", "math"]


def test_what_names_no_model_is_said_before_any_is_read(shelf):
    with pytest.raises(UnknownModel, match="chta"):
        pinned(shelf, "merge_method: linear\nmodels: [chat, chta]\n")
    with pytest.raises(UnknownModel, match=r"nobody\+chat|nobody"):
        pinned(shelf, "merge_method: linear\nmodels: [nobody+chat]\n")


def test_strangers_are_refused_unless_they_are_wanted(shelf):
    text = "merge_method: linear\nmodels: [chat, stranger]\n"
    with pytest.raises(NotHomologous):
        pinned(shelf, text)
    assert pin_down(shelf, recipe_from_text(text), allow_unrelated=True).models


def test_an_alignment_is_for_strangers(shelf):
    text = "merge_method: linear\nmodels: [chat, stranger]\nalign: {method: weight_matching, residual: true}\n"
    assert pinned(shelf, text).align.options == {"residual": True}


def test_a_tokenizer_s_model_is_pinned_by_id(shelf):
    text = (
        "merge_method: linear\nmodels: [chat, math]\ntokenizer_source: math\nchat_template: chat\n"
    )
    found = pinned(shelf, text)
    assert found.tokenizer.source == shelf.find("math")
    assert found.chat_template == shelf.find("chat")


def test_a_parent_that_is_gone_is_named(shelf, family, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(family.chat, copy)
    file = next(copy.glob("*.safetensors"))
    tensors = {name: tensor * 2 for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    scan(shelf, [str(copy)])
    found = pin_down(
        shelf, recipe_from_text(f"merge_method: linear\nmodels: [chat, {copy}]\n"), allow_unrelated=True
    )  # fmt: skip
    shutil.rmtree(copy)
    with pytest.raises(BadAddress, match="copy"):
        decide(shelf, found)


def test_a_merge_goes_on_from_what_it_left(shelf, tmp_path):
    first = merge(
        shelf, recipe_from_text("merge_method: opcm\nmodels: [chat, math]\n"), tmp_path / "a"
    )
    state = state_of(shelf, first.model, "opcm")
    assert state
    assert state_of(shelf, first.model, "ties") == {}
    assert state_of(shelf, shelf.find("chat"), "opcm") == {}
    text = f"merge_method: opcm\nbase_model: base\nmodels: [{tmp_path}/a, cpt]\n"
    found = pinned(shelf, text)
    known = {name: value for name, value in state.items() if name in found.values}
    assert known
    assert {name: found.values[name] for name in known} == known

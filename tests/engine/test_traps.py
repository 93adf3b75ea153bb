"""Sixteen ways in which merges go wrong elsewhere: refused, said in the plan, or right; and what the user sees."""

import json

import pytest
import torch
from conftest import moved, save_model, weights
from safetensors.torch import load_file

from engine.draws import Draws
from engine.merge import merge, plan, reproduce
from engine.methods import get
from engine.options import Options
from engine.recipe_file import recipe_from_text
from registry.errors import (
    BadRecipe,
    MissingTensor,
    NonFinite,
    NotHomologous,
    OutputExists,
    ShapeMismatch,
    UnsupportedDtype,
)


def small(n, scale, seed=0):
    """A task vector."""
    return scale * torch.randn(n, generator=torch.Generator().manual_seed(seed))


def draws(n, size=0):
    return Draws(0, "w", tuple(f"m{i}" for i in range(n)), size)


def changed(family, name, tmp_path, **tensors):
    """A copy of a model of the family with some tensors changed, removed (None) or added."""
    made = dict(family.weights[name])
    for key, tensor in tensors.items():
        full = key.replace("__", ".")
        made.pop(full, None)
        if tensor is not None:
            made[full] = tensor
    return save_model(tmp_path / f"{name}-changed", made, card="base_model: base")


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("merge_method: ties\nmodels: [a]\nparameters: {densty: 0.5}", "no parameter 'densty'", "did you mean density?"),
        ("merge_method: ties\nmodels: [a]\nout_dtpe: float32", "unknown key 'out_dtpe'", "did you mean out_dtype?"),
        ("merge_methd: ties\nmodels: [a]", "unknown key 'merge_methd'", "did you mean merge_method?"),
        ("merge_method: ties\nmodels: [{model: a, paramters: {}}]", "unknown key 'paramters'", "did you mean parameters?"),
    ],
)  # fmt: skip
def test_1_misspelt_keys_are_refused_with_the_right_one(text, message, hint, catalog):
    with pytest.raises(BadRecipe, match=message) as caught:
        plan(catalog, recipe_from_text(text))
    assert caught.value.hint == hint


def test_2_a_tensor_that_some_models_lack_is_refused_and_one_that_all_have_is_kept(
    shelf, family, recipe_of, tmp_path
):
    extra = {"extra__weight": torch.ones(3, dtype=torch.bfloat16)}
    one = changed(family, "chat", tmp_path, **extra)
    with pytest.raises(MissingTensor, match=r"extra\.weight is in .*chat-changed but not in math"):
        merge(
            shelf,
            recipe_of("linear", one, "math"),
            tmp_path / "out",
        )
    other = changed(family, "math", tmp_path, **extra)
    merge(shelf, recipe_of("linear", one, other, base="base"), tmp_path / "out")
    assert "extra.weight" in load_file(tmp_path / "out" / "model.safetensors")


def test_3_codes_of_eight_bits_are_refused(shelf, family, recipe_of, tmp_path):
    name = "model.layers.0.mlp.up_proj.weight"
    codes = family.weights["chat"][name].to(torch.float8_e4m3fn)
    coded = changed(family, "chat", tmp_path, **{name.replace(".", "__"): codes})
    with pytest.raises(
        UnsupportedDtype, match="F8_E4M3, which holds codes and not values"
    ) as caught:
        merge(shelf, recipe_of("linear", coded, "math"), tmp_path / "out")
    assert caught.value.hint == "dequantise the model first"


def test_4_a_folder_with_something_in_it_is_refused(shelf, recipe_of, tmp_path):
    merge(shelf, recipe_of("linear", "chat", "math"), tmp_path / "out")
    with pytest.raises(OutputExists, match="not empty"):
        merge(shelf, recipe_of("ties", "chat", "math"), tmp_path / "out")


def test_5_random_masks_repeat_whatever_the_order_and_the_seed_is_recorded(
    shelf, recipe_of, tmp_path
):
    one = merge(shelf, recipe_of("dare_linear", "chat", "math"), tmp_path / "one")
    again = merge(shelf, recipe_of("dare_linear", "chat", "math"), tmp_path / "again")
    merge(shelf, recipe_of("dare_linear", "math", "chat", dtype="F32"), tmp_path / "turned")
    merge(shelf, recipe_of("dare_linear", "chat", "math", dtype="F32"), tmp_path / "straight")
    assert one.model == again.model
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("turned", "straight"))
    assert all(torch.allclose(a[name], b[name], atol=1e-6) for name in a)
    assert json.loads((tmp_path / "one" / "homolog.json").read_text())["recipe"]["seed"] == 0


def test_6_the_card_names_parents_and_digests_and_no_folder(shelf, family, recipe_of, tmp_path):
    merge(shelf, recipe_of("linear", family.chat, family.math), tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert str(family.root) not in card
    front = card.partition("---")[2].partition("---")[0]
    assert "- chat" in front
    assert "- math" in front
    assert shelf.find("chat")[:12] in card
    assert reproduce(shelf, "out", tmp_path / "again")[0] == shelf.find("out")


def test_7_a_shape_that_differs_is_found_before_anything_is_written(
    shelf, family, recipe_of, tmp_path
):
    name = "model.layers.1.mlp.up_proj.weight"
    wrong = changed(family, "chat", tmp_path, **{name.replace(".", "__"): torch.zeros(3, 16)})
    with pytest.raises(
        ShapeMismatch, match=r"layers\.1\.mlp\.up_proj\.weight has shape \[24, 16\].*\[3, 16\]"
    ):
        merge(shelf, recipe_of("linear", "math", wrong, base="base"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", ["linear", "slerp", "ties"])
def test_8_a_number_that_is_none_is_refused_by_name(method, shelf, family, recipe_of, tmp_path):
    name = "model.layers.0.mlp.up_proj.weight"
    broken = family.weights["chat"][name].clone()
    broken[0, 0] = torch.nan
    wrong = changed(family, "chat", tmp_path, **{name.replace(".", "__"): broken})
    with pytest.raises(NonFinite, match=f"tensor {name} of .*chat-changed.* holds NaN"):
        merge(shelf, recipe_of(method, "math", wrong, base="base"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_9_arithmetic_is_in_float32_whatever_is_stored():
    base = torch.randn(20_000, generator=torch.Generator().manual_seed(1)).mul_(0.02)
    models = [(base + small(20_000, 1e-3, i)).bfloat16().float() for i in range(3)]
    anchor = base.bfloat16().float()
    deltas = [model - anchor for model in models]
    exact = sum(d.double() for d in deltas) / 3
    found = get("task_arithmetic").function(deltas, weight=1 / 3).double()
    assert float((found - exact).norm() / exact.norm()) < 1e-6
    dropped = get("dare_linear").function([torch.ones(100_000)], draws=draws(1), density=0.999)
    assert 50 < int((dropped == 0).sum()) < 150


def test_10_small_task_vectors_are_weighed_and_not_clamped():
    first, second = small(512, 1e-4, 1), small(512, 3e-4, 2)
    weighed = get("sce").function([first, second], select_topk=1.0)
    sizes = [float(d.double().square().mean()) for d in (first, second)]
    share = sizes[1] / sum(sizes)
    only = (first * second < 0) & (second.abs() > 3 * first.abs())
    assert share > 0.85
    torch.testing.assert_close(weighed[only], second[only])
    same = small(512, 1e-5, 3)
    near = same + small(512, 1e-7, 4)
    merged = (
        get("model_stock").function([same, near], base=torch.zeros(512))
        if ("base" in get("model_stock").context)
        else get("model_stock").function([same, near])
    )
    assert float(merged.norm() / same.norm()) > 0.98


def test_11_small_tensors_keep_their_task_vectors():
    one, few = torch.tensor([0.5]), small(50, 1.0)
    crumbs = get("breadcrumbs").function([few], density=0.9, gamma=0.01)
    assert int((crumbs != 0).sum()) >= 40
    assert get("ties").function([one], density=0.1, scope="tensor").tolist() == [0.5]


def test_12_frozen_tensors_give_the_base():
    base = torch.arange(6.0)
    merged = get("multislerp").function([base.clone()] * 3, base=base)
    assert torch.equal(merged, base)


def test_13_a_density_is_one_of_what_changed_where_asked():
    delta = torch.zeros(1000)
    delta[:10] = torch.arange(1.0, 11)
    kept = get("ties").function([delta], density=0.5, scope="tensor", of="changed")
    assert int((kept != 0).sum()) == 5


def test_14_one_tied_model_and_one_with_its_own_head_give_an_untied_one(
    catalog, tmp_path, recipe_of
):
    tied = {k: v.bfloat16() for k, v in weights(1).items() if k != "lm_head.weight"}
    own = moved({k: v.bfloat16() for k, v in weights(1).items()}, 2, 0.001)
    first = save_model(tmp_path / "tied", tied, config={"tie_word_embeddings": True})
    second = save_model(tmp_path / "own", own)
    decided = plan(catalog, recipe_of("linear", first, second), allow_unrelated=True)
    assert any("its model.embed_tokens.weight stands for it" in note for note in decided.notes)
    merge(
        catalog,
        recipe_of("linear", first, second),
        tmp_path / "out",
        options=Options(allow_unrelated=True),
    )
    assert "lm_head.weight" in load_file(tmp_path / "out" / "model.safetensors")
    assert (
        json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False
    )


def test_15_mixed_dtypes_are_said_and_the_config_tells_the_truth(
    shelf, family, recipe_of, tmp_path
):
    recipe = recipe_of("linear", "base", str(family.original))
    decided = plan(shelf, recipe, allow_unrelated=True)
    assert any("the parents hold BF16, F32" in note for note in decided.notes)
    merge(shelf, recipe, tmp_path / "out", options=Options(allow_unrelated=True))
    stored = {t.dtype for t in load_file(tmp_path / "out" / "model.safetensors").values()}
    assert stored == {torch.bfloat16}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["torch_dtype"] == "bfloat16"


def test_16_quantiles_are_exact_and_need_no_random_numbers():
    method = get("arcee_fusion")
    assert "draws" not in method.context
    base, delta = small(1_100_000, 0.02, 1), small(1_100_000, 1e-3, 2)
    torch.manual_seed(0)
    first = method.function([delta], base=base)
    torch.manual_seed(1)
    assert torch.equal(method.function([delta], base=base), first)


def test_unrelated_models_are_refused_before_anything_else(shelf, recipe_of, tmp_path):
    with pytest.raises(NotHomologous):
        merge(shelf, recipe_of("linear", "chat", "stranger"), tmp_path / "out")
    assert not (tmp_path / "out").exists()

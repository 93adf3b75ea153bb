"""Adapters merged into an adapter by `merge`: registered, loaded by PEFT, made again, verified."""

import json

import pytest
import torch
from peft import PeftModel
from peft_lab import TOKENS, Lab
from scanned import linked
from transformers import AutoModelForCausalLM

from engine.merge import merge, plan, reproduce
from engine.recipe_file import recipe_from_text
from engine.verify import verify
from registry.catalog import Catalog
from registry.errors import BadRecipe, NotMergeable
from registry.scan import scan

RECIPE = """
merge_method: {method}
models:
  - {{model: {room}/one, parameters: {{weight: 0.7}}}}
  - {{model: {room}/two, parameters: {{weight: 0.4}}}}
"""


def furnished(folder):
    """A base, two adapters of it, and a catalog that knows them."""
    lab = Lab(folder)
    lab.base()
    lab.adapter("one", 1)
    lab.adapter("two", 2, r=3, target_modules=["q_proj", "down_proj"])
    catalog = Catalog(folder / "catalog.duckdb")
    scan(catalog, [str(folder)])
    return folder, catalog


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return furnished(tmp_path_factory.mktemp("room"))[0]


@pytest.fixture
def room(shared, tmp_path):
    """The same for one test, which leaves the models as they are."""
    return linked(shared, tmp_path)


def recipe(folder, method="task_arithmetic", more=""):
    return recipe_from_text(RECIPE.format(room=folder, method=method) + more)


@torch.no_grad()
def logits(folder, *adapters, weights=()):
    network = AutoModelForCausalLM.from_pretrained(folder / "base")
    if len(adapters) == 1:
        network = PeftModel.from_pretrained(network, folder / adapters[0])
    elif adapters:
        network = PeftModel.from_pretrained(network, folder / adapters[0], adapter_name="0")
        for i, name in enumerate(adapters[1:], 1):
            network.load_adapter(folder / name, adapter_name=str(i))
        names = [str(i) for i in range(len(adapters))]
        network.add_weighted_adapter(names, list(weights), "sum", combination_type="cat")
        network.set_adapter("sum")
    return network.eval()(TOKENS).logits


def test_task_arithmetic_of_adapters_is_what_peft_computes(room):
    folder, catalog = room
    made = merge(catalog, recipe(folder), folder / "out")
    expected = logits(folder, "one", "two", weights=(0.7, 0.4))
    torch.testing.assert_close(logits(folder, "out"), expected, rtol=1e-4, atol=1e-5)
    config = json.loads((folder / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"].endswith("base")
    rows = catalog.rows(
        "select parent, role, coefficient from store.edge where child = ? and status = 'recorded' "
        "order by coefficient desc",
        [made.model],
    )
    assert [(r["role"], r["coefficient"]) for r in rows] == [("model", 0.7), ("model", 0.4)]
    kind = catalog.rows("select kind from store.model where id = ?", [made.model])
    assert kind[0]["kind"] == "adapter"
    assert verify(catalog, str(folder / "out")).ok


@pytest.mark.parametrize("method", ["ties", "dare_linear", "knots"])
def test_any_method_makes_an_adapter_that_peft_loads(method, room):
    folder, catalog = room
    made = merge(catalog, recipe(folder, method), folder / "out")
    assert not torch.allclose(logits(folder, "out"), logits(folder), atol=1e-4)
    assert any("relative error of the merged change" in note for note in made.notes)
    expected, again = reproduce(catalog, str(folder / "out"), folder / "again")
    assert again.model == expected == made.model


def test_a_rank_is_kept_and_recorded(room):
    folder, catalog = room
    made = merge(catalog, recipe(folder, "ties", "adapter: {rank: 2}\n"), folder / "out")
    config = json.loads((folder / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["rank_pattern"]) == (2, {})
    sidecar = json.loads((folder / "out" / "homolog.json").read_text())
    assert sidecar["recipe"]["adapter"] == {"rank": 2, "energy": 0.0}
    assert "rank: 2" in (folder / "out" / "README.md").read_text()
    assert reproduce(catalog, str(folder / "out"), folder / "again")[1].model == made.model


def test_a_plan_says_which_tensors_change(room):
    folder, catalog = room
    found = plan(catalog, recipe(folder))
    assert any(step.name.endswith("layers.0.mlp.down_proj.weight") for step in found.steps)
    assert [model.name for model in found.models] == ["one", "two"]


def test_a_card_travels_without_paths(room):
    folder, catalog = room
    merge(catalog, recipe(folder), folder / "out")
    card = (folder / "out" / "README.md").read_text()
    assert "library_name: peft" in card
    assert str((folder / "base").resolve().parent) not in card
    assert "zero" not in card


def test_what_needs_the_base_takes_the_known_one_or_asks_for_it(tmp_path):
    folder, catalog = furnished(tmp_path)
    lab = Lab(folder)
    lab.base()
    lab.adapter("saved", 3, modules_to_save=["lm_head"])
    text = RECIPE.format(room=folder, method="task_arithmetic").replace("/two", "/saved")
    alone = Catalog(folder / "alone.duckdb")
    scan(alone, [str(folder / name) for name in ("one", "saved")])
    with pytest.raises(NotMergeable, match="it takes the base's weights") as refused:
        merge(alone, recipe_from_text(text), folder / "out")
    assert "give --base" in refused.value.hint
    assert not (folder / "out").exists()
    scan(catalog, [str(folder)])
    found = merge(catalog, recipe_from_text(text), folder / "found")
    made = merge(catalog, recipe_from_text(f"{text}base_model: {folder}/base\n"), folder / "out")
    assert found.model == made.model
    assert reproduce(catalog, str(folder / "out"), folder / "again")[1].model == made.model


def test_a_size_is_refused_where_no_adapter_is_made(room):
    folder, catalog = room
    text = RECIPE.format(room=folder, method="linear").replace("/two", "/base+" + f"{folder}/two")
    with pytest.raises(BadRecipe, match="not all of its models are adapters"):
        merge(catalog, recipe_from_text(text + "adapter: {rank: 2}\n"), folder / "out")


def test_what_is_written_is_counted(room):
    folder, catalog = room
    made = merge(catalog, recipe(folder), folder / "out")
    stored = (folder / "out" / "adapter_model.safetensors").stat().st_size
    assert made.write_bytes < stored < made.write_bytes + 8192

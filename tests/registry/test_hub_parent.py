"""Parents are named as they are on the Hub, never by where they lie here."""

import pytest
from conftest import save_model
from hub.server import LocalHub

from registry.hub_parent import hub_relation, parents_of
from registry.scan import scan


def tell(catalog, child, *folders):
    scan(catalog, [str(f) for f in folders])
    return [
        (p.name, p.repository, p.relation, p.status)
        for p in parents_of(catalog, catalog.find(str(child)))
    ]


@pytest.fixture
def child(family, tmp_path):
    """Make a child of base whose card says something of its base."""

    def make(says, name="mine"):
        return save_model(tmp_path / name, family.weights["chat"], card=says)

    return make


def test_a_parent_that_is_only_here_has_no_repository(catalog, family, child):
    made = child("base_model: base")
    assert tell(catalog, made, family.base, made) == [("base", None, "finetune", "declared")]


def test_a_parent_that_nobody_has_here_is_called_as_the_card_calls_it(catalog, child):
    made = child("base_model: gpt2")
    assert tell(catalog, made, made) == [("gpt2", "gpt2", "finetune", "declared")]


def test_a_parent_that_is_here_is_believed_to_be_where_the_card_says(catalog, family, child):
    made = child("base_model: org/base")
    assert tell(catalog, made, family.base, made) == [("base", "org/base", "finetune", "declared")]


def test_a_parent_that_was_seen_on_the_hub_has_that_name(catalog, family, child, hub: LocalHub):
    hub.add("org/origin", family.base)
    made = child("base_model: base\nbase_model_relation: quantized")
    scan(catalog, [str(family.base)])
    scan(catalog, ["hf://org/origin"])
    assert tell(catalog, made, made) == [("base", "org/origin", "quantized", "declared")]


def test_the_words_of_the_card_decide_between_two_repositories(
    catalog, family, child, hub: LocalHub
):
    made = child("base_model: org/mirror")
    scan(catalog, [str(family.base), str(made)])
    for name in ("org/first", "org/mirror"):
        hub.add(name, family.base)
        scan(catalog, [f"hf://{name}"])
    assert tell(catalog, made, made)[0][1] == "org/mirror"


def test_an_adapter_that_names_a_path_names_no_repository(catalog, family, tmp_path):
    from conftest import save_adapter  # noqa: PLC0415

    base = save_model(tmp_path / "models" / "base", family.weights["base"])
    adapter = save_adapter(tmp_path / "adapter", "models/base")
    assert tell(catalog, adapter, base, adapter) == [("base", None, "adapter", "declared")]


def test_the_hub_s_words_for_relations(catalog, family, child):
    made = child("base_model: [base, org/other]")
    scan(catalog, [str(family.base), str(made)])
    found = parents_of(catalog, catalog.find(str(made)))
    assert [p.relation for p in found] == ["merge", "merge"]
    assert hub_relation(found) == "merge"
    assert hub_relation(()) is None


def test_the_order_is_that_of_the_recipe_and_the_base_is_first(catalog, family, child):
    made = child("base_model: [org/a, org/b, org/c]")
    scan(catalog, [str(made)])
    model = catalog.find(str(made))
    plain = parents_of(catalog, model)
    assert [p.name for p in plain] == ["org/a", "org/b", "org/c"]
    ids = [p.id for p in plain]
    assert [p.name for p in parents_of(catalog, model, [ids[2], ids[0]])] == [
        "org/c",
        "org/a",
        "org/b",
    ]

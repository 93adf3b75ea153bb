"""mergekit's recipes, in files and in cards."""

import pytest
import yaml
from conftest import save_model, weights

from registry.card import Card
from registry.checkpoint import read_checkpoint
from registry.claims import read_claims
from registry.mergekit import mentions, recipes, references
from registry.scan import scan


def named(text):
    wrong = []
    found = [(m.value, m.is_base, m.weight) for m in mentions(yaml.safe_load(text), wrong)]
    assert wrong == []
    return found


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("a/b", ["a/b"]),
        ("a/b@v1+c/d", ["a/b@v1", "c/d"]),
        ("a+b+c", ["a+b+c"]),
        ("+x", ["+x"]),
        ({"model": {"path": "a/b"}}, ["a/b"]),
        ({"model": {"path": "a/b", "revision": "r"}, "lora": {"path": "c/d"}}, ["a/b@r", "c/d"]),
        ({"path": "a/b"}, ["a/b"]),
        ({"x": 1}, [{"x": 1}]),
        (7, [7]),
    ],
)
def test_references(value, found):
    assert references(value) == found


@pytest.mark.parametrize(
    ("weight", "coefficient"),
    [
        ("0.5", 0.5), ("[0.2, 0.8]", None), ("[0.3, 0.3]", 0.3), ("{value: 0.4}", 0.4),
        ("[{filter: mlp, value: 0.1}, {value: 0.9}]", None), ("[{value: 0.9}]", 0.9), ("true", None), ("[]", None),
        ("{filter: mlp, value: 1.0}", None), ("much", None),
    ],
)  # fmt: skip
def test_only_a_weight_for_all_layers_is_a_coefficient(weight, coefficient):
    text = f"models: [{{model: a/b, parameters: {{weight: {weight}}}}}]"
    assert named(text) == [("a/b", False, coefficient)]


def test_weights_fall_back_on_slice_module_and_recipe():
    text = """
    parameters: {weight: 0.1}
    modules:
      text:
        parameters: {weight: 0.2}
        slices:
          - sources: [{model: a/one}, {model: a/two, parameters: {weight: 0.4}}]
            parameters: {weight: 0.3}
          - sources: [{model: a/three}]
      vision: {models: [{model: a/four}]}
    base_model: {model: {path: a/base}}
    tokenizer_source: other/tokens
    """
    assert named(text) == [
        ("a/one", False, 0.3), ("a/two", False, 0.4), ("a/three", False, 0.2), ("a/four", False, 0.1),
        ("a/base", True, None),
    ]  # fmt: skip


def test_slices_have_bases_of_their_own():
    text = "slices: [{sources: [{model: a/x}], base_model: a/y+me/lora}]\nbase_model: a/z"
    assert named(text) == [
        ("a/x", False, None),
        ("a/z", True, None),
        ("a/y", True, None),
        ("me/lora", True, None),
    ]


CARD = """
This is a merge of pre-trained language models created using [mergekit](https://example.org/mergekit).

```yaml
merge_method: task_arithmetic
base_model: lab/base
models:
- model: lab/chat
  parameters: {weight: 0.6}
- model: lab/math
  parameters: {weight: [0.1, 0.9]}
```

```yaml
not: a recipe
```
"""


def test_a_card_that_says_mergekit_holds_the_recipe():
    assert len(recipes(Card({}, CARD))) == 1
    assert recipes(Card({"tags": ["mergekit"]}, CARD.replace("[mergekit]", ""))) == recipes(
        Card({}, CARD)
    )
    assert recipes(Card({}, CARD.replace("[mergekit]", ""))) == []
    assert recipes(Card({"tags": 7}, CARD.replace("```", "``"))) == []


def said(folder):
    claims, problems = read_claims(read_checkpoint(folder))
    assert problems == ()
    return {(c.predicate, c.object, c.coefficient) for c in claims if c.source == "mergekit_config"}


def test_the_recipe_of_a_card_counts_where_there_is_no_file(tmp_path, catalog):
    folder = save_model(tmp_path / "merged", weights(1), tokenizer=False)
    (folder / "README.md").write_text(
        f"---\ntags: [merge, mergekit]\nbase_model: [lab/chat, lab/math]\n---\n{CARD}"
    )
    assert said(folder) == {
        ("merge_parent", "lab/chat", 0.6), ("merge_parent", "lab/math", None), ("base_model", "lab/base", None)
    }  # fmt: skip
    scan(catalog, [str(folder)])
    edges = catalog.rows("select parent_name, relation, role, coefficient from edges order by 1")
    assert [tuple(edge.values()) for edge in edges] == [
        ("lab/base", "merge", "base", None), ("lab/chat", "merge", "model", 0.6), ("lab/math", "merge", "model", None)
    ]  # fmt: skip
    (folder / "mergekit_config.yml").write_text("merge_method: linear\nmodels: [{model: lab/one}]")
    assert said(folder) == {("merge_parent", "lab/one", None)}


def test_a_broken_recipe_in_a_card_is_told_and_costs_nothing_else(tmp_path):
    folder = save_model(tmp_path / "merged", weights(1), tokenizer=False)
    (folder / "README.md").write_text(
        "---\nbase_model: lab/x\n---\n[mergekit]\n```yaml\nmerge_method: [\n```\n"
    )
    claims, problems = read_claims(read_checkpoint(folder))
    assert [c.object for c in claims] == ["lab/x"]
    (problem,) = problems
    assert (problem.file, problem.error) == ("README.md", "BadDocument")
    assert "YAML" in problem.detail

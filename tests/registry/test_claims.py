"""What is said about a model is read from every place that says it, word for word."""

import json
from pathlib import Path

import pytest

from registry.checkpoint import Checkpoint, read_checkpoint
from registry.claims import MAX_RAW, METADATA_KEY, SIDECAR_FORMAT, Claim, read_claims

HEX = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4


def make(folder: Path, metadata: dict[str, str] | None = None, **files: str) -> Checkpoint:
    """A checkpoint of one scalar, with text files whose names have `__` for the dot."""
    header = {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    text = json.dumps({"__metadata__": metadata, **header} if metadata else header).encode()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"\0\0\0\0")
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content, encoding="utf-8")
    return read_checkpoint(folder)


def said(checkpoint: Checkpoint) -> list[tuple[str, str, str | None, str]]:
    claims, problems = read_claims(checkpoint)
    assert problems == ()
    return [(c.predicate, c.object, c.relation, c.source) for c in claims]


def card(front_matter: str) -> str:
    return f"---\n{front_matter}\n---\n# A model\n"


def test_a_checkpoint_without_metadata_says_nothing(tmp_path):
    assert read_claims(make(tmp_path)) == ((), ())


def test_a_card_names_its_base_and_licence(tmp_path):
    text = card("license: apache-2.0\nbase_model: mistralai/Mistral-7B-v0.1")
    assert said(make(tmp_path, README__md=text)) == [
        ("base_model", "mistralai/Mistral-7B-v0.1", None, "card"),
        ("license", "apache-2.0", None, "card"),
    ]


def test_the_relation_of_a_card_goes_to_each_of_its_bases(tmp_path):
    text = card("base_model:\n- a/one\n- b/two\nbase_model_relation: quantized")
    assert said(make(tmp_path, README__md=text)) == [
        ("relation", "quantized", None, "card"),
        ("base_model", "a/one", "quantized", "card"),
        ("base_model", "b/two", "quantized", "card"),
    ]


def test_the_tag_merge_says_merge_where_nothing_else_does(tmp_path):
    tagged = make(
        tmp_path / "a", README__md=card("base_model: [a/b, c/d]\ntags: [mergekit, merge]")
    )
    stated = card("base_model: a/b\nbase_model_relation: finetune\ntags: [merge]")
    assert [c.relation for c in read_claims(tagged)[0]] == ["merge", "merge"]
    assert said(make(tmp_path / "b", README__md=stated))[1][2] == "finetune"


@pytest.mark.parametrize(
    ("value", "objects"),
    [
        ("a/b", ["a/b"]),
        ("'  a/b '", ["a/b"]),
        ("[a/b, a/b]", ["a/b"]),
        ("[[a/b], [[c/d]]]", ["a/b", "c/d"]),
        ("{name: a/b, revision: main}", ["a/b"]),
        ("[{id: a/b}, {model: c/d}]", ["a/b", "c/d"]),
        ("7", ["7"]),
        ("no", ["no"]),
        ("2024-01-01", ["2024-01-01"]),
        ("/home/me/models/base", ["/home/me/models/base"]),
        ("../base", ["../base"]),
        ("null", []),
        ("", []),
        ("''", []),
        ("[null, '']", []),
        ("[]", []),
        ("{}", []),
    ],
)
def test_base_model_is_read_in_every_form_people_write(tmp_path, value, objects):
    assert [
        o for _, o, _, _ in said(make(tmp_path, README__md=card(f"base_model: {value}")))
    ] == objects


@pytest.mark.parametrize(
    "value", ["true", "1.5", ".nan", "{size: 7}", '"a\\e[31mb"', "0x" + "f" * 9_000, "a" * 1_001]
)
def test_a_base_that_is_no_name_is_a_problem_and_costs_no_other_claim(tmp_path, value):
    text = card(f"base_model: [{value}, a/b]\nlicense: mit")
    claims, (problem,) = read_claims(make(tmp_path, README__md=text))
    assert [c.object for c in claims] == ["a/b", "mit"]
    assert (problem.file, problem.error) == ("README.md", "BadDocument")
    assert "base_model" in problem.detail


def test_a_licence_of_its_own_is_called_by_its_name(tmp_path):
    text = card("license: other\nlicense_name: llama3\nlicense_link: LICENSE")
    (claim,) = read_claims(make(tmp_path, README__md=text))[0]
    assert (claim.predicate, claim.object) == ("license", "llama3")
    assert json.loads(claim.raw) == {
        "license": "other", "license_name": "llama3", "license_link": "LICENSE"
    }  # fmt: skip


def test_several_licences_are_several_claims(tmp_path):
    text = card("license: [mit, apache-2.0]")
    assert [o for _, o, _, _ in said(make(tmp_path, README__md=text))] == ["mit", "apache-2.0"]


def test_a_broken_card_is_one_problem_and_the_adapter_config_still_speaks(tmp_path):
    config = json.dumps({"base_model_name_or_path": "a/b", "revision": "abc", "r": 8})
    checkpoint = make(tmp_path, README__md=card("a: [1\nb: }"), adapter_config__json=config)
    claims, (problem,) = read_claims(checkpoint)
    assert (problem.file, problem.error) == ("README.md", "BadDocument")
    assert claims == (
        Claim("base_model", "a/b", "adapter", None, "adapter_config",
              '{"base_model_name_or_path": "a/b", "revision": "abc"}'),
    )  # fmt: skip


def test_a_blank_base_of_an_adapter_says_nothing_and_a_list_is_a_problem(tmp_path):
    blank = make(tmp_path / "a", adapter_config__json='{"base_model_name_or_path": null}')
    wrong = make(tmp_path / "b", adapter_config__json='{"base_model_name_or_path": ["a/b"]}')
    assert read_claims(blank) == ((), ())
    assert [p.file for p in read_claims(wrong)[1]] == ["adapter_config.json"]


@pytest.mark.parametrize("name", ["", "tuned", "runs/tuned", "org/tuned", "org/tuned/"])
def test_a_config_that_names_its_own_folder_says_nothing(tmp_path, name):
    config = json.dumps({"_name_or_path": name})
    assert said(make(tmp_path / "runs" / "tuned", config__json=config)) == []


def test_a_config_that_names_its_own_path_says_nothing(tmp_path):
    config = json.dumps({"_name_or_path": str(tmp_path)})
    assert said(make(tmp_path, config__json=config)) == []


def test_a_config_in_the_cache_that_names_its_own_repository_says_nothing(tmp_path):
    folder = tmp_path / "models--org--name" / "snapshots" / ("a" * 40)
    assert said(make(folder, config__json='{"_name_or_path": "org/name"}')) == []


@pytest.mark.parametrize(
    "name", ["org/base", "/models/tuned", "../tuned", "base", "org/deep/tuned"]
)
def test_a_config_that_names_another_place_names_a_base(tmp_path, name):
    config = json.dumps({"_name_or_path": name})
    expected = [("base_model", name, None, "config")]
    assert said(make(tmp_path / "runs" / "tuned", config__json=config)) == expected


LINEAR = """
merge_method: dare_ties
base_model: org/base
models:
  - model: org/base
  - model: org/chat
    parameters: {weight: 0.6, density: 0.5}
  - model: {model: {path: org/math, revision: v1}, lora: {path: me/lora}}
    parameters: {weight: [0, 0.5, 1]}
  - model: ../code
    parameters:
      weight:
        - {filter: mlp, value: 0.5}
        - value: 1
"""


def test_a_mergekit_recipe_names_base_models_and_weights(tmp_path):
    claims, problems = read_claims(make(tmp_path, mergekit_config__yml=LINEAR))
    assert problems == ()
    assert {c.relation for c in claims} == {"merge"}
    assert {c.source for c in claims} == {"mergekit_config"}
    assert [(c.predicate, c.object, c.coefficient) for c in claims] == [
        ("merge_parent", "org/base", None),
        ("merge_parent", "org/chat", 0.6),
        ("merge_parent", "org/math@v1", None),
        ("merge_parent", "me/lora", None),
        ("merge_parent", "../code", None),
        ("base_model", "org/base", None),
    ]


def test_slices_of_one_model_are_one_claim_and_differing_weights_are_none(tmp_path):
    sources = [("a/one", 0.5), ("b/two", 0.5), ("a/one", 0.5), ("b/two", 0.7)]
    recipe = "slices:\n" + "".join(
        f"- sources:\n  - {{model: {model}, layer_range: [{i}, {i + 1}], parameters: {{weight: {weight}}}}}\n"
        for i, (model, weight) in enumerate(sources)
    )
    claims, _ = read_claims(make(tmp_path, mergekit_config__yaml=recipe))
    assert [(c.object, c.coefficient) for c in claims] == [("a/one", 0.5), ("b/two", None)]


def test_modules_of_a_recipe_are_read(tmp_path):
    recipe = "modules:\n  text: {models: [{model: a/b}]}\n  vision: {slices: [{sources: [{model: c/d}]}]}"
    assert [o for _, o, _, _ in said(make(tmp_path, mergekit_config__yml=recipe))] == ["a/b", "c/d"]


def test_intermediate_results_of_a_chain_of_recipes_are_no_parents(tmp_path):
    recipe = (
        "name: step\nmodels:\n- {model: a/b, parameters: {weight: 0.5}}\n---\n"
        "base_model: step\nmodels:\n- {model: step}\n- {model: c/d, parameters: {weight: 1.0}}\n---\n"
    )
    claims, _ = read_claims(make(tmp_path, mergekit_config__yml=recipe))
    assert [(c.object, c.coefficient) for c in claims] == [("a/b", None), ("c/d", None)]


@pytest.mark.parametrize(
    "recipe",
    [
        "models: 7",
        "models: [7.5]",
        "- a",
        "slices: x",
        "slices: [{sources: {}}]",
        "models: [{weight: 1}]",
        "a: *b",
    ],
)
def test_a_malformed_recipe_is_one_problem(tmp_path, recipe):
    claims, (problem,) = read_claims(make(tmp_path, mergekit_config__yml=recipe))
    assert claims == ()
    assert (problem.file, problem.error) == ("mergekit_config.yml", "BadDocument")


PARENTS = [
    {"name": "base", "digest": HEX, "role": "base", "coefficient": None},
    {"name": "chat", "digest": OTHER, "role": "model", "coefficient": 0.25},
]


def test_our_sidecar_names_parents_by_digest(tmp_path):
    sidecar = json.dumps({"format": SIDECAR_FORMAT, "parents": PARENTS})
    claims, problems = read_claims(make(tmp_path, homolog__json=sidecar))
    assert problems == ()
    assert [(c.predicate, c.object, c.relation, c.coefficient) for c in claims] == [
        ("base_model", f"digest:{HEX}", "merge", None),
        ("merge_parent", f"digest:{OTHER}", "merge", 0.25),
    ]
    assert [json.loads(c.raw)["name"] for c in claims] == ["base", "chat"]


def test_metadata_of_our_own_says_what_the_sidecar_says(tmp_path):
    facts = {"format": SIDECAR_FORMAT, "parents": PARENTS}
    sidecar = read_claims(make(tmp_path / "a", homolog__json=json.dumps(facts)))[0]
    metadata = read_claims(make(tmp_path / "b", {METADATA_KEY: json.dumps(facts)}))[0]
    assert [(c.predicate, c.object, c.coefficient) for c in sidecar] == [
        (c.predicate, c.object, c.coefficient) for c in metadata
    ]
    assert {c.source for c in metadata} == {"metadata"}


@pytest.mark.parametrize(
    "sidecar",
    [
        "[]",
        "{",
        '{"format": "homolog-sidecar-9", "parents": []}',
        json.dumps({"format": SIDECAR_FORMAT, "parents": {"a": 1}}),
        json.dumps({"format": SIDECAR_FORMAT, "parents": [{"digest": "../../etc"}]}),
    ],
)
def test_a_sidecar_we_did_not_write_is_a_problem(tmp_path, sidecar):
    claims, (problem,) = read_claims(make(tmp_path, homolog__json=sidecar))
    assert claims == ()
    assert problem.file == "homolog.json"


def test_the_web_ui_names_direct_parents_among_all_ancestors(tmp_path):
    metadata = {
        "sd_merge_recipe": json.dumps(
            {"type": "webui", "primary_model_hash": "a1", "secondary_model_hash": "b2",
             "tertiary_model_hash": None, "interp_method": "Weighted sum", "multiplier": 0.3}
        ),
        "sd_merge_models": json.dumps(
            {"a1": {"name": "one.safetensors"}, "c3": {"name": "grandparent"}, "b2": {"name": "two"}}
        ),
    }  # fmt: skip
    assert said(make(tmp_path, metadata)) == [
        ("merge_parent", "one.safetensors", "merge", "metadata"),
        ("merge_parent", "two", "merge", "metadata"),
    ]


def test_modelspec_and_kohya_metadata_name_parents(tmp_path):
    merged = make(tmp_path / "a", {"modelspec.merged_from": "base, Pony V6 XL"})
    trained = make(tmp_path / "b", {"ss_sd_model_name": "v1-5.ckpt", "ss_network_module": "lora"})
    unnamed = make(tmp_path / "c", {"ss_sd_model_name": "None", "format": "pt"})
    assert [o for _, o, _, _ in said(merged)] == ["base", "Pony V6 XL"]
    assert said(trained) == [("base_model", "v1-5.ckpt", "adapter", "metadata")]
    assert said(unnamed) == []


def test_one_malformed_key_of_the_metadata_costs_no_other(tmp_path):
    metadata = {METADATA_KEY: "{", "sd_merge_models": "[]", "modelspec.merged_from": "a"}
    claims, (problem,) = read_claims(make(tmp_path, metadata))
    assert [c.object for c in claims] == ["a"]
    assert problem.file == "model.safetensors"
    assert "sd_merge_models" in problem.detail


def test_a_bare_file_speaks_by_its_metadata(tmp_path):
    make(tmp_path, {"modelspec.merged_from": "a"}, README__md=card("base_model: b/c"))
    bare = read_checkpoint(tmp_path / "model.safetensors")
    assert said(bare) == [("merge_parent", "a", "merge", "metadata")]


def test_sources_that_agree_are_kept_side_by_side(tmp_path):
    checkpoint = make(
        tmp_path,
        README__md=card("base_model: a/b"),
        config__json='{"_name_or_path": "a/b"}',
        adapter_config__json='{"base_model_name_or_path": "a/b"}',
    )
    assert [s for _, _, _, s in said(checkpoint)] == ["adapter_config", "config", "card"]


def test_snippets_and_numbers_of_claims_are_bounded(tmp_path):
    many = card(f"base_model: [{', '.join(f'a/m{i}' for i in range(3_000))}]")
    long = json.dumps({"format": SIDECAR_FORMAT, "parents": [{**PARENTS[0], "name": "x" * 9_000}]})
    claims, (problem,) = read_claims(make(tmp_path, README__md=many, homolog__json=long))
    assert len([c for c in claims if c.source == "card"]) == 1_000
    assert "1000" in problem.detail
    assert max(len(c.raw) for c in claims) == MAX_RAW

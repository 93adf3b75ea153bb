"""What is written beside the weights: enough to make them again, and nothing of this machine."""

import dataclasses
import json

import pytest
import torch

from engine.change import Change
from engine.provenance import (
    metadata,
    metadata_of,
    parents_of,
    public_name,
    read_sidecar,
    write_companions,
    write_readme,
    write_sidecar,
)
from registry.card import read_card
from registry.checkpoint import read_checkpoint
from registry.errors import BadDocument, PathEscapes
from registry.license_findings import effective
from registry.license_table import license_table
from registry.licensing import Descent, Licensed

CONFIG = {"model_type": "llama", "_name_or_path": "/home/me/base", "torch_dtype": "float32"}
CHANGE = Change(n=10, n_changed=4, sum_sq=0.25, base_sum_sq=1.0, max_abs=0.125)


@pytest.fixture
def plan(make_parent, planned):
    base = make_parent("base", {"w": torch.zeros(3)}, config=CONFIG)
    one, two = (
        make_parent(n, {"w": torch.ones(3) * i}, config=CONFIG)
        for i, n in enumerate(("one", "two"), 1)
    )
    return planned(
        "task_arithmetic", [one, two], base=base, weight=[0.75, 0.25], lambda_=0.5, seed=3
    )


def license_of(plan, others):
    """The effective licence of a result whose parents are all under MIT but for the others, by name."""
    said = {p.id: others.get(p.name, "mit") for p in plan.parents}
    models = [Licensed(p.id, p.name, tuple(filter(None, [said[p.id]]))) for p in plan.parents]
    models.append(Licensed("r", "r", ours=True))
    return effective(models, [Descent("r", id_, "merge") for id_ in said], license_table())["r"]


def readme(plan, folder, **changed):
    options = {
        "model": "f" * 64,
        "change": CHANGE,
        "version": "1.2",
        "license_": license_of(plan, {}),
        "measured": (),
    }
    write_readme(plan, folder, **{**options, **changed})
    return (folder / "README.md").read_text(encoding="utf-8")


def test_parents_are_named_with_digest_role_and_coefficient(plan):
    base, one, two = plan.parents
    assert parents_of(plan) == [
        {"name": "base", "digest": base.id, "role": "base", "coefficient": None},
        {"name": "one", "digest": one.id, "role": "model", "coefficient": 0.375},
        {"name": "two", "digest": two.id, "role": "model", "coefficient": 0.125},
    ]


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("org/model", "org/model"),
        ("model", "model"),
        ("/home/me/model", "model"),
        ("a/b/c", "c"),
        ("C:\\models\\chat", "chat"),
        ("/model", "model"),
    ],
)
def test_a_public_name_holds_no_folder_of_this_machine(name, public, plan):
    parent = type(plan.base)(plan.base.id, name, plan.base.checkpoint, {})
    assert public_name(parent) == public


def test_two_parents_of_one_name_are_told_apart(make_parent, planned):
    one, two = (
        make_parent(f"{n}/checkpoint", {"w": torch.ones(3) * i}) for i, n in enumerate(("x", "y"))
    )
    plan = planned("linear", [one, two])
    assert [p["name"] for p in parents_of(plan)] == [one.id[:12], two.id[:12]]


def test_shards_and_sidecar_say_the_same(plan, tmp_path):
    write_sidecar(plan, tmp_path, model="f" * 64, digests={"w": "d" * 64}, version="1.2")
    sidecar = read_sidecar(tmp_path)
    assert sidecar["recipe"] == plan.recipe.canonical()
    assert sidecar["recipe"]["seed"] == 3
    assert sidecar["tensors"] == {"w": "d" * 64}
    assert metadata_of(sidecar) == metadata(plan, "1.2")
    assert metadata(plan, "1.2")["format"] == "pt"


def test_what_is_written_holds_no_path_no_time_and_no_machine(plan, tmp_path):
    write_sidecar(plan, tmp_path, model="f" * 64, digests={}, version="1.2")
    write_companions(plan, tmp_path)
    texts = [readme(plan, tmp_path), *metadata(plan, "1.2").values()]
    texts += [(tmp_path / n).read_text(encoding="utf-8") for n in ("homolog.json", "config.json")]
    for text in texts:
        assert str(tmp_path.parent) not in text
        assert "/home" not in text


def test_the_card_names_parents_digests_recipe_and_what_changed(plan, tmp_path):
    text = readme(
        plan, tmp_path, license_=license_of(plan, {"one": "apache-2.0"}), measured=(("x", "y"),)
    )
    front = read_card(text).front_matter
    assert front["base_model"] == ["base", "one", "two"]
    assert front["base_model_relation"] == "merge"
    assert front["license"] == "apache-2.0"
    assert "apache-2.0: covers all it was made of (not legal advice" in text
    assert "- say what was changed (apache-2.0:state_changes 4(b) of Apache License 2.0" in text
    for parent in plan.parents:
        assert parent.id[:12] in text
    assert plan.recipe.digest in text
    assert "f" * 64 in text
    assert "merge_method: task_arithmetic" in text
    assert "seed: 3" in text
    assert "| relative L2 distance to base | 0.5 |" in text
    assert "| share of parameters changed | 0.4000 |" in text
    assert "| x | y |" in text


@pytest.mark.parametrize(
    ("others", "stated", "why"),
    [
        ({"two": None}, {}, "No single licence: licence unknown for two (no card names a licence)"),
        ({"two": "bsd-2-clause"}, {"license": "other"}, "each of bsd-2-clause, mit would do"),
        ({"one": "gpl-3.0", "two": "llama3.1"}, {"license": "other"}, "- license_conflict: copyleft forbids"),
        ({"two": "qwen-research"}, {"license": "other", "license_name": "qwen-research"}, "qwen-research: covers"),
    ],
)  # fmt: skip
def test_a_licence_is_stated_where_there_is_one_and_why_not_where_there_is_none(
    others, stated, why, plan, tmp_path
):
    text = readme(plan, tmp_path, license_=license_of(plan, others))
    front = read_card(text).front_matter
    assert {k: v for k, v in front.items() if k.startswith("license")} == stated
    assert why in text


CARRIED = [
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json",
    "vocab.txt", "merges.txt", "chat_template.jinja", "tokenizer.model", "preprocessor_config.json",
    "modules.json", "LICENSE.txt",
]  # fmt: skip
LEFT = [
    "pytorch_model.bin.index.json", "tf_model.h5.index.json", "results.json", "all_results.json",
    "eval_results.json", "trainer_state.json", "training_args.json", "train_results.json", "mergekit_config.yml",
    "homolog.json", "README.md", "adapter_config.json", "training_args.bin", "notes.md", "modeling_x.py",
]  # fmt: skip


def test_the_references_companions_are_carried_but_not_what_tells_of_its_weights(plan, tmp_path):
    root = plan.base.checkpoint.root
    for name in CARRIED + LEFT:
        (root / name).write_text(f'"{name}"', encoding="utf-8")
    (root / "1_Pooling").mkdir()
    (root / "1_Pooling" / "config.json").write_text("{}", encoding="utf-8")
    out = tmp_path / "out"
    out.mkdir()
    write_companions(_reread(plan), out)
    names = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert names == {"config.json", "1_Pooling/config.json", *CARRIED}
    assert all((out / name).read_text(encoding="utf-8") == f'"{name}"' for name in CARRIED)
    assert json.loads((out / "config.json").read_text(encoding="utf-8")) == {
        "model_type": "llama", "torch_dtype": "float32",
    }  # fmt: skip


def _reread(plan, **config):
    """The plan with the base's folder listed anew, its config changed."""
    checkpoint = read_checkpoint(plan.base.checkpoint.root)
    checkpoint = dataclasses.replace(checkpoint, config={**checkpoint.config, **config})
    return dataclasses.replace(plan, base=dataclasses.replace(plan.base, checkpoint=checkpoint))


def test_code_goes_with_a_model_that_needs_it(plan, tmp_path):
    (plan.base.checkpoint.root / "modeling_x.py").write_text("x = 1", encoding="utf-8")
    write_companions(_reread(plan, auto_map={"AutoModel": "modeling_x.X"}), tmp_path)
    assert (tmp_path / "modeling_x.py").read_text(encoding="utf-8") == "x = 1"


def test_a_companion_that_leads_out_of_the_folder_is_refused(plan, tmp_path):
    (tmp_path / "secret.json").write_text("{}", encoding="utf-8")
    (plan.base.checkpoint.root / "tokenizer.json").symlink_to(tmp_path / "secret.json")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(PathEscapes, match=r"tokenizer\.json"):
        write_companions(_reread(plan), out)


def test_a_sidecar_is_read_only_where_it_is_ours(tmp_path):
    assert read_sidecar(tmp_path) is None
    (tmp_path / "homolog.json").write_text('{"format": "other"}', encoding="utf-8")
    assert read_sidecar(tmp_path) is None
    (tmp_path / "homolog.json").write_text("[]", encoding="utf-8")
    assert read_sidecar(tmp_path) is None
    (tmp_path / "homolog.json").write_text("{", encoding="utf-8")
    with pytest.raises(BadDocument):
        read_sidecar(tmp_path)
    (tmp_path / "homolog.json").unlink()
    (tmp_path / "homolog.json").symlink_to("/proc/self/status")
    with pytest.raises(PathEscapes):
        read_sidecar(tmp_path)

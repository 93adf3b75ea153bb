"""The generator: a small part of it made at a trot, and what the two splits promise."""

import hashlib
import json
from collections import Counter

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForImageClassification
from zoo_lineage.family import ACTS, Pace, raise_family
from zoo_lineage.make import main, make
from zoo_lineage.matching import Union
from zoo_lineage.network import Shape
from zoo_lineage.plan import BASE, Family, Taste, edits, fan, linear_merges, parents, tree, turns
from zoo_lineage.splits import SPLITS, families
from zoo_lineage.storage import renamed

TROT = Pace(base=6, tune=4, continued=6, adapter=4)
MLP = Shape("mlp", width=32, depth=1)
LLAMA = Shape("llama", width=32, inner=64, depth=2)
VIT = Shape("vit", width=32, inner=64, depth=2)
CHOSEN = (
    Family("mlp", MLP, (BASE, *parents(), *linear_merges(Taste())), 1),
    Family("mlp-fan", MLP, (BASE, *fan()), 2, "sgd", missing=True),
    Family("llama", LLAMA, (BASE, *parents(), *edits(LLAMA)), 3, "lion"),
    Family("vit", VIT, (BASE, *parents()[:1], *turns(VIT)[:1]), 4),
)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """A small zoo with cards: its folder, and its truth by labels."""
    out = tmp_path_factory.mktemp("zoo")
    truth = make(out, "dev", CHOSEN, cards=True, pace=TROT)
    return out / "dev", truth


def folder(zoo, label):
    root, truth = zoo
    (name,) = (node["name"] for node in truth["nodes"] if node["label"] == label)
    return root / "models" / name


def weights(zoo, label):
    tensors = {}
    for file in sorted(folder(zoo, label).glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors


def digest(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return [(str(f.relative_to(root)), hashlib.sha256(f.read_bytes()).hexdigest()) for f in files]


def test_the_same_bytes_are_made_twice_whatever_was_made_before(tmp_path):
    for name, chosen in (("one", CHOSEN[:2]), ("two", CHOSEN[1::-1])):
        make(tmp_path / name, "dev", chosen, pace=TROT)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")


def test_folders_are_the_nodes_that_are_there_and_say_nothing(zoo):
    root, truth = zoo
    assert truth == json.loads((root / "truth.json").read_text(encoding="utf-8"))
    there = [node["name"] for node in truth["nodes"] if not node["latent"]]
    assert sorted(f.name for f in (root / "models").iterdir()) == sorted(there)
    assert len({path.stat().st_mtime_ns for path in root.rglob("*")}) == 1
    labels = [n["label"] for n in sorted(truth["nodes"], key=lambda n: n["name"])]
    assert labels != sorted(labels)
    for name in there:
        config = (root / "models" / name / "config.json").read_text(encoding="utf-8")
        assert "_name_or_path" not in config


def test_a_missing_base_is_latent_and_the_parent_of_its_children(zoo):
    _, truth = zoo
    (latent,) = (node for node in truth["nodes"] if node["latent"])
    assert latent["label"] == "mlp-fan/base"
    assert sum(edge["parent"] == latent["name"] for edge in truth["edges"]) == 5


def test_families_are_the_components_of_the_graph(zoo):
    _, truth = zoo
    union = Union()
    for edge in truth["edges"]:
        union.join(edge["child"], edge["parent"])
    found = {}
    for node in truth["nodes"]:
        found.setdefault(union.find(node["name"]), set()).add(node["family"])
    assert all(len(names) == 1 for names in found.values())
    assert len(found) == len(CHOSEN)


def test_a_linear_merge_is_the_sum_of_what_is_on_disk(zoo):
    a, b, made = (weights(zoo, f"mlp/{n}") for n in ("a", "b", "linear"))
    for name, w in made.items():
        exact = 0.6 * a[name].float() + 0.4 * b[name].float()
        torch.testing.assert_close(w.float(), exact, rtol=2**-8, atol=0)
    _, truth = zoo
    child = folder(zoo, "mlp/linear").name
    edges = [edge for edge in truth["edges"] if edge["child"] == child]
    assert sorted((e["coefficient"], e["exact"], e["kind"]) for e in edges) == [
        (0.4, True, "merge"), (0.6, True, "merge"),
    ]  # fmt: skip


def test_copies_hold_the_same_values_and_their_direction_cannot_be_told(zoo):
    c = weights(zoo, "llama/c")
    other = weights(zoo, "llama/renamed")
    assert all(torch.equal(other[renamed(name, "llama")], w) for name, w in c.items())
    base, sharded = weights(zoo, "llama/base"), weights(zoo, "llama/sharded")
    assert all(torch.equal(sharded[name], w) for name, w in base.items())
    assert len(list(folder(zoo, "llama/sharded").glob("*.safetensors"))) == 3
    assert {w.dtype for w in weights(zoo, "llama/wide").values()} == {torch.float32}
    _, truth = zoo
    told = Counter((e["kind"], e["direction_identifiable"]) for e in truth["edges"])
    assert told["copy", False] == 3
    assert told["copy", True] == 0
    assert told["cast", False] >= 1
    assert told["permuted", False] == 1


def test_what_is_on_disk_is_loaded_by_transformers(zoo):
    for label in ("llama/base", "llama/sharded", "llama/deep", "llama/extended"):
        _, report = AutoModelForCausalLM.from_pretrained(
            folder(zoo, label), output_loading_info=True
        )
        assert not any(report.values()), label
    _, report = AutoModelForImageClassification.from_pretrained(
        folder(zoo, "vit/permuted"), output_loading_info=True
    )
    assert not any(report.values())


def test_cards_name_a_base_model_and_some_name_a_wrong_one(zoo):
    root, truth = zoo
    assert {claim["true"] for claim in truth["claims"]} == {True, False}
    parents_of = {}
    for edge in truth["edges"]:
        parents_of.setdefault(edge["child"], []).append(edge["parent"])
    for claim in truth["claims"]:
        assert (claim["base_model"] == parents_of[claim["child"]]) == claim["true"]
        card = (root / "models" / claim["child"] / "README.md").read_text(encoding="utf-8")
        assert all(name in card for name in claim["base_model"])


def test_training_moves_what_it_says():
    family = Family("tree", LLAMA, (BASE, *tree(1)), 5)
    made = raise_family(family, TROT)

    def change(child, parent, name):
        return made[child].state[name] - made[parent].state[name]

    assert not change("frozen", "base", "model.layers.0.mlp.up_proj.weight").any()
    assert change("frozen", "base", "model.layers.1.mlp.up_proj.weight").any()
    low = change("lora1", "base", "model.layers.1.mlp.up_proj.weight")
    values = torch.linalg.svdvals(low)
    assert float(values[0]) > 5 * float(values[1])
    assert not change("lora1", "base", "model.embed_tokens.weight").any()


def test_checkpoints_are_of_one_run():
    family = Family("fan", MLP, (BASE, *fan()[:3]), 6)
    made = raise_family(family, Pace(base=20, tune=30))

    def far(a, b):
        return sum(float((made[a].state[n] - w).norm()) for n, w in made[b].state.items())

    assert far("at1", "base") < far("at2", "base") < far("at3", "base")
    assert far("at2", "at3") < far("at1", "at3")


@pytest.mark.parametrize("split", ["dev", "sealed"])
def test_a_split_has_every_kind_in_three_architectures(split):
    chosen = families(split)
    nodes = [node for family in chosen for node in family.nodes]
    assert len(nodes) >= 60
    assert {family.shape.architecture for family in chosen} == {"llama", "vit", "mlp"}
    bases = Counter(family.shape.architecture for family in chosen)
    assert min(bases.values()) >= 3
    kinds = {
        "base", "copy", "cast", "finetune", "continued_pretrain", "adapter_merged", "merge", "merge_trained",
        "frankenmerge", "quantized", "pruned", "vocab_extended", "edited", "noise", "permuted", "random", "distilled",
    }  # fmt: skip
    assert {node.kind for node in nodes} == kinds
    assert {node.act for node in nodes} == set(ACTS)
    assert 0.25 <= sum(family.missing for family in chosen) / len(chosen) <= 0.4
    assert {node.options["rank"] for node in nodes if "rank" in node.options} == {1, 4, 16}


def test_the_sealed_split_shares_no_shape_and_no_seed_with_the_others():
    others, sealed = [*families("dev"), *families("practice")], families("sealed")
    assert not {f.shape for f in others} & {f.shape for f in sealed}
    assert not {f.seed for f in others} & {f.seed for f in sealed}
    used = {family.optimiser for family in sealed}
    assert used == {"adamw-0", "adamw-0.01", "adamw-0.1", "adamw-0.5", "sgd", "lion"}


@pytest.mark.parametrize("split", SPLITS)
def test_parents_come_before_their_children(split):
    for family in families(split):
        names = [node.name for node in family.nodes]
        assert len(set(names)) == len(names)
        for i, node in enumerate(family.nodes):
            assert set(node.parents + node.neutral) <= set(names[:i]), (family.name, node.name)


def test_an_unknown_family_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), "--split", "dev", "--only", "nobody"])
    assert "no family nobody" in capsys.readouterr().err

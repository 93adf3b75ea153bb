"""The judge on trees small enough to be judged by hand."""

import json

import pytest
from zoo_lineage.judge import adjusted_rand, judge, main, rates, scores


def node(name, **other):
    return {
        "name": name, "label": f"f/{name}", "family": "f", "architecture": "mlp", "kind": "finetune",
        "latent": False, "root": False, "basis": "base", "dtype": "BF16", "neutral": [],
    } | other  # fmt: skip


def edge(child, parent, kind="finetune", **other):
    return {
        "child": child, "parent": parent, "kind": kind, "method": "", "coefficient": None,
        "exact": False, "direction_identifiable": True,
    } | other  # fmt: skip


BASE = node("base", kind="base", root=True)
STRANGER = node("random", kind="random", root=True, family="g", basis="random")


def said(*edges, latent=(), homologous=()):
    return {
        "edges": [{"child": c, "parent": p, **dict(*o)} for c, p, *o in edges],
        "latent": list(latent),
        "homologous_not_aligned": list(homologous),
    }


def chain(*, latent=False):
    """Base <- a <- b, and a stranger."""
    nodes = [BASE | {"latent": latent}, node("a"), node("b"), node("c"), STRANGER]
    edges = [edge("a", "base"), edge("b", "a"), edge("c", "base")]
    return {"nodes": nodes, "edges": edges}


def merged():
    """M = 0.6 a + 0.4 b with the base as a neutral node."""
    truth = chain()
    truth["nodes"].append(node("m", kind="merge", neutral=["base"]))
    truth["edges"] += [
        edge("m", "a", "merge", coefficient=0.6, exact=True, method="linear"),
        edge("m", "c", "merge", coefficient=0.4, exact=True, method="linear"),
    ]
    return truth


def copied():
    """A and its copies, and b made from one of them."""
    nodes = [BASE, node("a"), node("copy"), node("wide", dtype="F32"), node("b")]
    same = {"direction_identifiable": False}
    edges = [
        edge("a", "base"), edge("copy", "a", "copy", **same), edge("wide", "a", "cast", **same),
        edge("b", "copy"),
    ]  # fmt: skip
    return {"nodes": nodes, "edges": edges}


def truthful(truth):
    keys = ("child", "parent", "kind", "coefficient", "method")
    edges = [{k: e[k] for k in keys} | {"confidence": 1.0} for e in truth["edges"]]
    latent = [n["name"] for n in truth["nodes"] if n["latent"]]
    return {"edges": edges, "latent": latent, "homologous_not_aligned": []}


@pytest.mark.parametrize("truth", [chain(), chain(latent=True), merged(), copied()])
def test_the_truth_itself_has_full_marks(truth):
    report = judge(truth, truthful(truth))
    for key in ("undirected", "directed", "merge_detection", "parent_sets", "directed_observed"):
        assert report[key] == {"precision": 1.0, "recall": 1.0, "f1": 1.0}, key
    assert report["root_accuracy"] == report["kind_macro_f1"] == report["component_ari"] == 1.0
    assert report["kind_macro_f1_end_to_end"] == 1.0
    assert report["ece"] == report["brier"] == 0.0
    assert not any(report["failures"].values())
    assert report["by_architecture"] == {"mlp": {"undirected": 1.0, "directed": 1.0}}


def test_nothing_said_is_nothing_found():
    report = scores(chain(), said())
    assert report["undirected"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0}
    assert report["direction_accuracy"] is None
    assert report["ece"] is None
    assert len(report["failures"]["missed"]) == 3


def test_a_reversed_edge_is_found_but_not_directed():
    report = scores(chain(), said(("base", "a"), ("b", "a"), ("c", "random")))
    assert report["undirected"] == {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3}
    assert report["directed"]["f1"] == 1 / 3
    assert report["direction_accuracy"] == 0.5
    assert report["failures"]["reversed"] == ["f/base <- f/a"]
    assert report["failures"]["spurious"] == ["f/c <- f/random"]
    assert report["failures"]["missed"] == ["f/c <- f/base (finetune)"]


def test_a_wrong_root_is_named():
    report = scores(chain(), said(("base", "a"), ("b", "a"), ("c", "base")))
    assert report["root_accuracy"] == 0.0
    assert report["wrong_roots"] == ["f: f/a instead of f/base"]


def test_an_edge_said_twice_counts_once():
    report = scores(chain(), said(("a", "base"), ("base", "a"), ("a", "base")))
    assert report["undirected"]["precision"] == 1 / 3
    assert report["directed"]["recall"] == 1 / 3


def test_copies_are_interchangeable_and_connected_once():
    right = said(
        ("copy", "base"), ("a", "wide", {"kind": "cast"}), ("a", "copy", {"kind": "copy"}), ("b", "wide")
    )  # fmt: skip
    report = scores(copied(), right)
    assert report["directed"]["f1"] == 1.0
    assert report["kind_confusion"]["cast"] == {"cast": 1}
    circle = said(("copy", "a"), ("a", "wide"), ("copy", "wide"))
    assert scores(copied(), circle)["undirected"] == {
        "precision": 2 / 3, "recall": 2 / 4, "f1": 4 / 7,
    }  # fmt: skip


def test_a_copy_that_is_missed_is_missed():
    report = scores(copied(), said(("a", "base"), ("b", "a"), ("copy", "a")))
    assert report["n_true_edges"] == 4
    assert report["undirected"]["recall"] == 0.75
    assert report["failures"]["missed"] == ["f/wide <- f/a (cast)"]
    assert report["kind_confusion"]["cast"] == {"(none)": 1}


def test_a_cast_that_lost_something_is_an_edge_of_its_own():
    truth = copied()
    truth["edges"][2]["direction_identifiable"] = True
    assert scores(truth, said(("a", "wide")))["direction_accuracy"] == 0.0


def test_a_latent_parent_is_known_by_its_children():
    report = scores(chain(latent=True), said(("a", "?1"), ("c", "?1"), ("b", "a"), latent=["?1"]))
    assert report["directed"]["f1"] == 1.0
    assert report["root_accuracy"] == 1.0
    assert report["directed_observed"]["f1"] == 1.0


def test_a_latent_parent_of_other_children_is_spurious():
    told = said(("b", "?1"), ("random", "?1"), ("a", "?1"), latent=["?1"])
    report = scores(chain(latent=True), told)
    assert report["undirected"]["precision"] == 0.0
    assert report["root_accuracy"] == 0.0
    assert scores(chain(), said(("a", "?1"), latent=["?1"]))["directed"]["f1"] == 0.0


def test_siblings_of_a_missing_base_chained_are_wrong():
    report = scores(chain(latent=True), said(("c", "a"), ("b", "a")))
    assert report["directed"] == {"precision": 0.5, "recall": 1 / 3, "f1": 2 / 5}
    assert report["directed_observed"] == {"precision": 0.5, "recall": 1.0, "f1": 2 / 3}


def test_a_merge_is_detected_with_its_parents_and_coefficients():
    told = said(
        ("m", "a", {"coefficient": 0.5}), ("m", "b"), ("m", "base"), ("b", "a"), ("b", "c")
    )  # fmt: skip
    report = scores(merged(), told)
    assert report["merge_detection"] == {"precision": 0.5, "recall": 1.0, "f1": 2 / 3}
    assert report["parent_sets"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert report["coefficient_mae"] == pytest.approx(0.1)
    assert report["coefficients_given"] == 0.5
    assert report["merges_by_method"] == {
        "merge linear": {
            "of": 1,
            "detected": 1,
            "parents_right": 0,
            "with_base": 1,
            "method_right": 0,
        }
    }
    assert report["failures"]["coefficients"] == ["f/m <- f/a: 0.500 instead of 0.600"]
    told = said(("m", "a", {"method": "linear"}), ("m", "b", {"method": "linear"}))
    assert scores(merged(), told)["merges_by_method"]["merge linear"]["method_right"] == 1
    told = said(("m", "a", {"method": "ties"}), ("m", "b", {"method": "linear"}))
    assert scores(merged(), told)["merges_by_method"]["merge linear"]["method_right"] == 0


def test_the_base_of_a_recipe_is_neither_right_nor_wrong():
    assert scores(merged(), said(("m", "base"), ("base", "m")))["n_predicted_edges"] == 0


def test_kinds_are_scored_on_edges_found_and_end_to_end():
    truth = chain()
    truth["edges"][1]["kind"] = "pruned"
    told = said(
        ("base", "a", {"kind": "finetune"}), ("b", "a", {"kind": "finetune"}), ("c", "random")
    )  # fmt: skip
    report = scores(truth, told)
    assert report["kind_macro_f1"] == pytest.approx((2 / 3 + 0) / 2)
    assert report["kind_macro_f1_end_to_end"] == pytest.approx((2 / 4 + 0) / 2)
    assert report["kind_confusion"] == {
        "(none)": {"unknown": 1}, "finetune": {"(none)": 1, "finetune": 1}, "pruned": {"finetune": 1},
    }  # fmt: skip
    assert report["failures"]["wrong_kind"] == ["f/b <- f/a: finetune instead of pruned"]


def test_confidence_is_compared_with_being_right():
    told = said(
        ("a", "base", {"confidence": 0.9}), ("a", "b", {"confidence": 0.9}), ("c", "b", {"confidence": 0.2})
    )  # fmt: skip
    report = scores(chain(), told)
    assert report["brier"] == pytest.approx((0.01 + 0.81 + 0.04) / 3)
    assert report["ece"] == pytest.approx((0.8 + 0.2) / 3)


def test_a_permuted_copy_is_joined_in_either_direction():
    truth = chain()
    truth["nodes"].append(node("p", kind="permuted", basis="p"))
    truth["edges"].append(edge("p", "b", "permuted", direction_identifiable=False))
    report = scores(truth, said(("b", "p", {"kind": "permuted"})))
    assert report["directed"]["precision"] == 1.0
    assert report["homologous_precision"] == report["homologous_recall"] == 1.0
    report = scores(truth, said(homologous=[["a", "p"], ["p", "random"], ["a", "b"]]))
    assert report["homologous_precision"] == pytest.approx(1 / 3)
    assert report["homologous_recall"] == 1.0


def test_components_are_compared_by_the_adjusted_rand_index():
    assert adjusted_rand("aabb", "xxyy") == 1.0
    assert adjusted_rand("aabb", "xyxy") == pytest.approx(-0.5)
    assert adjusted_rand("aaab", "xxyy") == pytest.approx(0.0)
    assert adjusted_rand("aaa", "xxx") == 1.0


def test_nothing_to_find_and_nothing_said_is_right():
    assert rates(0, 0, 0)["f1"] == 1.0


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="nobody is no model of this zoo"):
        scores(chain(), said(("a", "nobody")))


def test_the_command_prints_and_writes_the_report(tmp_path, capsys):
    for name, value in (("truth", merged()), ("said", said(("a", "base"), ("b", "random")))):
        (tmp_path / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    files = [str(tmp_path / f"{name}.json") for name in ("truth", "said")]
    assert main([*files, "--json", str(tmp_path / "report.json")]) == 0
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report == json.loads(json.dumps(judge(merged(), said(("a", "base"), ("b", "random")))))
    assert "f/b <- f/random" in capsys.readouterr().out

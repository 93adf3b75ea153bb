"""The baseline on a family whose distances are known."""

import json

import numpy as np
import torch
from safetensors.torch import save_file
from zoo_lineage.mother import buckets, clusters, distances, kurtosis, main, tree


def states(n, scale=0.1):
    """A base, and n − 1 models each a little farther along a chain, all by independent steps."""
    generator = torch.Generator().manual_seed(1)
    made = [{"w": torch.randn(32, 32, generator=generator)}]
    for _ in range(n - 1):
        step = scale * torch.randn(32, 32, generator=generator)
        made.append({"w": made[-1]["w"] + step})
    return made


def test_distances_are_the_scaled_largest_entries():
    a, b = {"w": torch.zeros(2, 2)}, {"w": torch.tensor([[1.0, 0.0], [0.0, -3.0]])}
    d = distances([a, b])
    assert d[0, 1] == 1.0
    assert d[1, 0] == (1 + 3) / (3 + 3)


def test_kurtosis_is_three_for_a_normal_matrix():
    w = torch.randn(400, 400, generator=torch.Generator().manual_seed(1))
    assert abs(kurtosis({"w": w, "not square": w[:3]}) - 3.0) < 0.05


def test_clusters_are_far_apart():
    d = np.ones((4, 4)) - np.eye(4)
    d[0, 2] = d[2, 0] = d[1, 3] = d[3, 1] = 0.1
    assert sorted(clusters(d, 2)) == [[0, 2], [1, 3]]


def test_a_tree_goes_the_way_the_kurtosis_says():
    d = np.array([[0.0, 0.1, 0.2], [0.1, 0.0, 0.1], [0.2, 0.1, 0.0]])
    assert tree(d, np.array([1.0, 2.0, 3.0])) == [(0, 1), (1, 2)]
    assert tree(d, np.array([3.0, 2.0, 1.0])) == [(1, 0), (2, 1)]


def test_models_of_other_shapes_are_not_compared():
    models = {"a": {"w": torch.ones(2, 2)}, "b": {"w": torch.ones(3, 3)}, "c": {"w": torch.ones(2, 2)}}  # fmt: skip
    assert buckets(models) == [["a", "c"], ["b"]]


def test_the_command_writes_what_the_judge_reads(tmp_path, capsys):
    nodes, edges = [], []
    for i, state in enumerate(states(3)):
        (tmp_path / "models" / f"m{i}").mkdir(parents=True)
        save_file(state, tmp_path / "models" / f"m{i}" / "model.safetensors")
        nodes.append({"name": f"m{i}", "label": f"m{i}", "family": "f", "architecture": "mlp",
                      "latent": False, "root": i == 0, "basis": "m0", "kind": "", "dtype": "F32",
                      "neutral": []})  # fmt: skip
        if i:
            edges.append({"child": f"m{i}", "parent": f"m{i - 1}", "kind": "finetune", "method": "",
                          "coefficient": None, "exact": False, "direction_identifiable": True})  # fmt: skip
    truth = {"nodes": nodes, "edges": edges}
    (tmp_path / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    assert main([str(tmp_path), "--out", str(tmp_path / "said.json")]) == 0
    said = json.loads((tmp_path / "said.json").read_text(encoding="utf-8"))
    assert len(said["edges"]) == 2
    assert "kept: flag" in capsys.readouterr().out

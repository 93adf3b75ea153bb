"""Weight matching: units that changed places are found again."""

import pytest
import torch
from networks import NETWORKS, network, outputs, shuffled
from safetensors.torch import load_file, save_file

from engine.reader import Reader
from engine.source import load
from engine.symmetry import groups
from engine.weight_matching import weight_matching
from registry.errors import MissingTensor, NotMergeable, ShapeMismatch

STREAMS = ("llama", "llama-tied", "qwen3", "olmo2", "gpt2", "opt", "bert", "bert-classifier", "vit")


@pytest.fixture
def pair(tmp_path, parent_at):
    """A network's folder, and that of one whose units are in another order."""

    def make(name, *, noise=0.0, **options):
        made = network(name)
        for folder in ("one", "other"):
            made.save_pretrained(tmp_path / folder)
        file = tmp_path / "other" / "model.safetensors"
        tensors = load_file(file)
        shapes = {n: tuple(t.shape) for n, t in tensors.items()}
        generator = torch.Generator().manual_seed(5)
        noisy = {
            n: t + noise * t.std() * torch.randn(t.shape, generator=generator)
            for n, t in tensors.items()
        }
        moved = shuffled(noisy, groups(made.config.to_dict(), shapes, **options), seed=7)
        save_file(moved, file, metadata={"format": "pt"})
        return parent_at(tmp_path / "one"), parent_at(tmp_path / "other"), noisy

    return make


def tensors_of(parent):
    with Reader() as reader:
        return {name: load(reader, source) for name, source in parent.tensors.items()}


def matched(anchor, other, **options):
    with Reader() as reader:
        return weight_matching(reader, anchor, other, **options)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_copy_in_another_order_becomes_what_it_was(name, pair):
    one, other, _ = pair(name)
    assert one.id != other.id
    found, expected = tensors_of(matched(one, other)), tensors_of(one)
    assert found.keys() == expected.keys()
    for tensor, value in expected.items():
        assert torch.equal(found[tensor], value), tensor


@pytest.mark.parametrize("name", STREAMS)
def test_so_does_one_whose_residual_stream_is_in_another_order(name, pair):
    one, other, _ = pair(name, residual=True)
    found, expected = tensors_of(matched(one, other, residual=True)), tensors_of(one)
    for tensor, value in expected.items():
        assert torch.equal(found[tensor], value), tensor


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_a_child_whose_weights_moved_a_little_is_found_again(name, pair):
    one, other, noisy = pair(name, noise=0.2, residual=True)
    found = tensors_of(matched(one, other, residual=True))
    for tensor, value in found.items():
        assert torch.equal(value, noisy[tensor]), tensor


def test_the_paper_s_example_as_its_authors_code_has_it(make_parent):
    first = torch.tensor([[1.0, 0, 2], [0, 3, 1]])
    bias = torch.tensor([0.1, 0.2, 0.3])
    second = torch.tensor([[1.0, 2], [3, 4], [5, 6]])
    order = [2, 0, 1]

    def tensors(order):
        return {
            "mlp.fc1.weight": first.T[order],
            "mlp.fc1.bias": bias[order],
            "mlp.fc2.weight": second[order].T,
        }

    anchor, other = make_parent("a", tensors([0, 1, 2])), make_parent("b", tensors(order))
    made = matched(anchor, other)
    assert made.made["mlp.fc1.bias"].orders == ((0, (1, 2, 0)),)
    for name, value in tensors([0, 1, 2]).items():
        assert torch.equal(tensors_of(made)[name], value)


def test_a_model_in_order_is_left_as_it_is(pair):
    one, _, _ = pair("llama")
    assert matched(one, one) is one
    assert matched(one, one, residual=True) is one


def test_units_that_cannot_be_told_apart_stay_where_they_are(make_parent):
    tensors = {"mlp.fc1.weight": torch.ones(4, 2), "mlp.fc2.weight": torch.ones(2, 4)}
    one, other = make_parent("a", tensors), make_parent("b", tensors)
    assert matched(one, other) is other


def test_matching_is_not_worse_than_no_matching(tmp_path, parent_at):
    for seed in (1, 2):
        network("llama", seed).save_pretrained(tmp_path / str(seed))
    one, other = (parent_at(tmp_path / str(seed)) for seed in (1, 2))
    mine, before = tensors_of(one), tensors_of(other)
    gains = []
    for options in ({}, {"residual": True}):
        after = tensors_of(matched(one, other, **options))
        gains.append(sum(float(((mine[n] - after[n]) ** 2).sum()) for n in mine))
    distance = sum(float(((mine[n] - before[n]) ** 2).sum()) for n in mine)
    assert gains[1] < gains[0] < distance


def test_what_computes_the_same_is_what_is_made(tmp_path, parent_at):
    made = network("bert", 3)
    made.save_pretrained(tmp_path / "b")
    network("bert", 4).save_pretrained(tmp_path / "a")
    found = tensors_of(matched(parent_at(tmp_path / "a"), parent_at(tmp_path / "b"), residual=True))
    before = outputs(made)
    file = tmp_path / "b" / "model.safetensors"
    save_file({n: t.contiguous() for n, t in found.items()}, file, metadata={"format": "pt"})
    again = type(made).from_pretrained(tmp_path / "b").eval()
    torch.testing.assert_close(outputs(again), before, rtol=2e-4, atol=2e-5)


def test_models_of_different_make_are_refused(make_parent):
    small = {"mlp.fc1.weight": torch.ones(3, 2), "mlp.fc2.weight": torch.ones(2, 3)}
    wide = {"mlp.fc1.weight": torch.ones(4, 2), "mlp.fc2.weight": torch.ones(2, 4)}
    more = small | {"norm.weight": torch.ones(2)}
    a, b, c = make_parent("a", small), make_parent("b", wide), make_parent("c", more)
    with pytest.raises(
        ShapeMismatch, match=r"fc1.weight has shape \[3, 2\] in a and \[4, 2\] in b"
    ):
        matched(a, b)
    with pytest.raises(MissingTensor, match=r"tensor norm.weight is in c but not in a"):
        matched(a, c)
    with pytest.raises(NotMergeable, match="no neurons or heads"):
        matched(*(make_parent(n, {"w": torch.ones(2, 2)}) for n in "de"))

"""PCB-Merging: the authors' scripts by their numbers, the paper by its formula, and no nonsense for zeros."""

import pytest
import torch
from reference.pcb import pcb as expected

from engine.competition import balance
from engine.draws import Draws
from engine.method import Seen
from engine.methods.pcb import pcb


def looking(models):
    """A look at models given as name → tensor."""

    def look(measure, *, sample=0):
        for name in sorted(models[0]):
            seen = Seen(name, [m[name] for m in models], None, Draws(0, name, ("a",)))
            yield name, measure(seen)

    return look


def merged(models, variant, ratio=0.2):
    whole = balance(looking(models), variant=variant, ratio=ratio)
    return {
        name: pcb([m[name] for m in models], whole=whole, variant=variant) for name in models[0]
    }


def matrix(seed, shape):
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("variant", ["paper", "a", "b", "c", "d"])
def test_tensors_are_one_model(variant):
    models = [{"a": matrix(i, (4, 5)), "b": matrix(i + 9, (13,))} for i in range(3)]
    found = merged(models, variant)
    whole = [torch.cat([m["a"].reshape(-1), m["b"]]).double().numpy() for m in models]
    right = torch.from_numpy(expected(whole, variant=variant)).float()
    torch.testing.assert_close(
        torch.cat([found["a"].reshape(-1), found["b"]]), right, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("variant", ["paper", "a", "b", "c", "d"])
def test_a_task_vector_of_zeros_makes_no_nonsense(variant):
    models = [{"a": matrix(0, (40,))}, {"a": torch.zeros(40)}]
    found = merged(models, variant)["a"]
    assert found.isfinite().all()
    assert merged([{"a": torch.zeros(3)}], variant)["a"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("ratio", [0.1, 0.5])
def test_so_large_a_share_is_kept(ratio):
    found = merged([{"a": matrix(0, (100,))}], "paper", ratio)["a"]
    assert int((found != 0).sum()) == 100 * ratio

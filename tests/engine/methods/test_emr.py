"""EMR: the unified task vector, and that of one task."""

import torch

from engine.draws import Draws
from engine.method import Seen
from engine.methods.emr import emr, measure

D1 = torch.tensor([[1.0, -2, 3, -4], [5, 6, -7, 8]])
D2 = torch.tensor([[2.0, 1, -6, -1], [-3, 4, 7, 5]])


def looking(models):
    """A look at models given as name → tensor."""

    def look(measure, *, sample=0):
        for name in sorted(models[0]):
            seen = Seen(name, [m[name] for m in models], None, Draws(0, name, ("a",)))
            yield name, measure(seen)

    return look


UNIFIED = torch.tensor([[2.0, -2, -6, -4], [5, 6, -7, 8]])


def test_the_unified_task_vector_has_the_largest_entries_of_the_elected_sign():
    assert torch.equal(emr([D1, D2], whole=1.0), UNIFIED)


def test_a_task_s_model_is_masked_and_rescaled():
    scale = measure(looking([{"w": D1}, {"w": D2}]), task=1)
    assert abs(scale - 1.058824) < 1e-6
    torch.testing.assert_close(
        emr([D1, D2], whole=scale, task=1), UNIFIED * (D1 * UNIFIED > 0) * scale
    )


def test_small_tensors_weigh_as_much_as_large_ones():
    models = [
        {"a": torch.ones(1000), "b": torch.tensor([1.0])},
        {"a": torch.ones(1000), "b": torch.tensor([3.0])},
    ]
    assert abs(measure(looking(models), task=1) - (1 + 1) / (1 + 3)) < 1e-9


def test_a_task_without_changes_stays_without():
    models = [{"w": torch.zeros(3)}, {"w": torch.ones(3)}]
    assert measure(looking(models), task=1) == 1.0
    assert not emr([m["w"] for m in models], whole=1.0, task=1).any()

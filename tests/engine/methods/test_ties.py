"""TIES-Merging, by hand on the fixture of two models, with the numbers of four implementations."""

import pytest
import torch

from engine.draws import Draws
from engine.method import Seen
from engine.methods.ties import ties
from engine.trimming import trimming

D1 = torch.tensor([[1.0, -2, 3, -4], [5, 6, -7, 8]])
D2 = torch.tensor([[2.0, 1, -6, -1], [-3, 4, 7, 5]])


def per_tensor(deltas, **parameters):
    return ties(deltas, scope="tensor", **parameters)


def whole_models(models, **parameters):
    """Models, name → tensor, merged by thresholds and majority of the whole."""

    def look(read, *, sample=0):
        for name in sorted(models[0]):
            seen = Seen(name, [m[name] for m in models], None, Draws(0, name, ("a",)))
            yield name, read(seen)

    surveyed = {k: v for k, v in parameters.items() if k in ("weight", "density", "sign", "tie")}
    whole = trimming(look, **surveyed)
    return {
        name: ties([m[name] for m in models], tensor=name, whole=whole, **parameters)
        for name in models[0]
    }


E1, E2 = torch.tensor([2.0, -1]), torch.tensor([-4.0, 3])


def test_three_of_eight_entries_as_mergellm_merges_them():
    expected = torch.tensor([[0, 0, -6, 0], [0, 6, 7, 6.5]])
    assert torch.equal(per_tensor([D1, D2], density=3 / 8), expected)
    assert per_tensor([E1, E2], density=1.0).tolist() == [-4, 3]


def test_five_of_eight_entries_as_the_authors_merge_them():
    expected = torch.tensor([[0, 0, -6, -4], [5, 5, 7, 6.5]])
    assert torch.equal(per_tensor([D1, D2], density=5 / 8), expected)


def test_half_of_the_entries_as_mergekit_merges_them():
    expected = torch.tensor([[0, 0, -6, 0], [5, 5, 7, 6.5]])
    assert torch.equal(per_tensor([D1, D2], density=0.5, tie="positive"), expected)


def test_unequal_weights_as_mergekit_merges_them():
    merged = per_tensor([D1, D2], density=1.0, weight=[0.3, 0.7])
    expected = torch.tensor([[1.7, 1, -6, -1.9], [-3, 4.6, 7, 5.9]])
    torch.testing.assert_close(merged, expected)


def test_disjoint_sum_without_normalizing():
    merged = per_tensor([D1, D2], density=5 / 8, normalize=False)
    assert torch.equal(merged, torch.tensor([[0.0, 0, -6, -4], [5, 10, 7, 13]]))


@pytest.mark.parametrize(("tie", "settled"), [("majority", -7.0), ("positive", 7.0), ("drop", 0.0)])
def test_entries_that_cancel_follow_the_rule_for_ties(tie, settled):
    first, second = torch.tensor([-7.0, -1, -1, 2]), torch.tensor([7.0, -1, -1, 2])
    merged = per_tensor([first, second], density=1.0, tie=tie)
    assert merged.tolist() == [settled, -1, -1, 2]


def test_without_a_majority_a_tie_is_dropped():
    merged = per_tensor([torch.tensor([5.0, 1, -1]), torch.tensor([-5.0, 1, -1])], density=1.0)
    assert merged.tolist() == [0, 1, -1]


def test_signs_can_be_counted_instead_of_summed():
    models = [torch.tensor([x]) for x in (9.0, -1.0, -1.0)]
    assert per_tensor(models, density=1.0, sign="sum").tolist() == [9]
    assert per_tensor(models, density=1.0, sign="count").tolist() == [-1]


def test_exactly_so_many_entries_stay_and_the_first_of_equal_ones():
    assert per_tensor([torch.tensor([1.0, 1, 1, 1])], density=0.5).tolist() == [1, 1, 0, 0]
    assert per_tensor([torch.tensor([1.0, -2, 1, 2, 1])], density=0.6).tolist() == [1, -2, 0, 2, 0]


@pytest.mark.parametrize("density", [0.2, 0.01, 1e-9])
def test_at_least_one_entry_stays(density):
    assert per_tensor([torch.tensor([0.5])], density=density).tolist() == [0.5]
    assert per_tensor([torch.tensor([0.5, -2, 1])], density=density).tolist() == [0, -2, 0]


def test_each_model_may_have_its_own_density():
    merged = per_tensor([torch.tensor([4.0, 1]), torch.tensor([2.0, 3])], density=[0.5, 1.0])
    assert merged.tolist() == [3, 3]


def test_one_model_at_density_one_is_given_back():
    assert torch.equal(per_tensor([D1], density=1.0), D1)


def test_copies_of_a_model_are_that_model_trimmed():
    assert torch.equal(per_tensor([D1] * 3), per_tensor([D1]))


def test_lambda_scales_the_result():
    assert torch.equal(per_tensor([D1, D2], lambda_=2.0), 2 * per_tensor([D1, D2]))
    assert torch.equal(per_tensor([D1, D2], lambda_=0.0), torch.zeros(2, 4))


def test_zero_task_vectors_change_nothing():
    assert torch.equal(per_tensor([torch.zeros(5), torch.zeros(5)]), torch.zeros(5))


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 3)])
def test_odd_shapes_keep_their_shape(shape):
    assert torch.equal(
        per_tensor([torch.ones(shape), torch.full(shape, 3.0)]), torch.full(shape, 2.0)
    )


def test_a_tensor_of_several_blocks_is_trimmed_as_a_whole():
    delta = torch.randn(700, 501, generator=torch.Generator().manual_seed(0))
    merged = per_tensor([delta], density=0.3)
    kept = merged != 0
    assert int(kept.sum()) == int(0.3 * delta.numel())
    assert torch.equal(merged[kept], delta[kept])
    assert float(delta[kept].abs().min()) >= float(delta[~kept].abs().max())


def test_majority_is_that_of_all_blocks():
    first = -torch.ones(400_000)
    second = torch.ones(400_000)
    second[-150_000:] = -1.0
    first[:10_000] = second[:10_000] = 2.0
    merged = per_tensor([first, second], density=1.0)
    assert merged[200_000] == -1


def test_the_whole_model_as_mergelm_merges_it_whose_threshold_keeps_both_of_two_equal_entries():
    merged = whole_models([{"W": D1, "b": E1}, {"W": D2, "b": E2}], density=[0.4, 0.5])
    assert merged["W"].tolist() == [[0, 0, -6, 0], [5, 5, 7, 6.5]]
    assert merged["b"].tolist() == [-4, 0]


def test_equal_entries_of_a_model_are_kept_in_the_order_of_tensors():
    models = [{"a": torch.ones(3), "b": torch.ones(3)}]
    merged = whole_models(models, density=0.7)
    assert merged["a"].tolist() == [1, 1, 1]
    assert merged["b"].tolist() == [1, 0, 0]


def test_the_majority_is_that_of_the_whole_model():
    models = [
        {"a": torch.tensor([4.0]), "b": torch.tensor([-1.0, -1, -1])},
        {"a": torch.tensor([-4.0]), "b": torch.tensor([-1.0, -1, -1])},
    ]
    assert whole_models(models, density=1.0)["a"].tolist() == [-4]
    assert whole_models(models, density=1.0, tie="positive")["a"].tolist() == [4]


def test_a_density_may_be_one_of_what_changed():
    delta = torch.zeros(1000)
    delta[:10] = torch.arange(1.0, 11)
    assert int((per_tensor([delta], density=0.5) != 0).sum()) == 10
    kept = per_tensor([delta], density=0.5, of="changed")
    assert kept.nonzero().flatten().tolist() == [5, 6, 7, 8, 9]

"""Model Stock, by hand on the fixture of two models."""

import math

import pytest
import torch

from engine.methods.model_stock import model_stock

D1 = torch.tensor([[1.0, -2, 3, -4], [5, 6, -7, 8]])
D2 = torch.tensor([[2.0, 1, -6, -1], [-3, 4, 7, 5]])
E1, E2 = torch.tensor([2.0, -1]), torch.tensor([-4.0, 3])
EAST, NORTH = torch.tensor([1.0, 0]), torch.tensor([0.0, 1])


def close(result, expected):
    torch.testing.assert_close(result, torch.tensor(expected), rtol=0, atol=2e-6)


def at(cosine):
    return torch.tensor([cosine, math.sqrt(1 - cosine**2)])


def test_share_of_two_models_is_that_of_the_paper():
    merged = model_stock([EAST, at(0.5)])
    t = 2 * 0.5 / (1 + 0.5)
    close(merged, ((EAST + at(0.5)) / 2 * t).tolist())


def test_cosines_are_averaged_over_all_pairs():
    models = [torch.eye(3)[0], torch.eye(3)[0], torch.eye(3)[1]]  # cosines 1, 0, 0
    t = 3 * (1 / 3) / (1 + 2 / 3)
    close(model_stock(models), [t * 2 / 3, t / 3, 0.0])


def test_angles_can_be_averaged_instead():
    models = [torch.eye(3)[0], torch.eye(3)[0], torch.eye(3)[1]]  # angles 0°, 90°, 90°
    t = 3 * 0.5 / (1 + 2 * 0.5)
    close(model_stock(models, average="angle"), [t * 2 / 3, t / 3, 0.0])


def test_both_averages_are_the_same_for_two_models():
    torch.testing.assert_close(
        model_stock([D1, D1 + D2], average="angle"), model_stock([D1, D1 + D2])
    )


def test_task_vectors_at_right_angles_give_the_base():
    close(model_stock([EAST, 5 * NORTH]), [0.0, 0.0])


def test_negative_cosine_gives_the_base_unless_t_is_unbounded():
    assert torch.equal(model_stock([D1, D2]), torch.zeros(2, 4))
    close(
        model_stock([D1, D2], bounded=False),
        [[-0.269924, 0.089974, 0.269924, 0.449873], [-0.179949, -0.899746, 0, -1.169668]],
    )
    beyond = model_stock([E1, E2], bounded=False)
    torch.testing.assert_close(beyond, torch.tensor([121.992, -121.992]), rtol=1e-5, atol=0)


def test_opposite_task_vectors_give_the_base():
    for bounded in (True, False):
        assert model_stock([E1, -E1], bounded=bounded).tolist() == [0, 0]
        assert model_stock([E1, -3 * E1], bounded=bounded).tolist() == [0, 0]


def test_three_task_vectors_that_cancel_out_give_the_base():
    thirds = [
        torch.tensor([math.cos(a), math.sin(a)]) for a in (0, 2 * math.pi / 3, 4 * math.pi / 3)
    ]
    close(model_stock(thirds, bounded=False), [0.0, 0.0])


def test_filter_wise_has_one_angle_for_each_row():
    rows = [model_stock([a, b]) for a, b in zip(D1, D1 + D2, strict=True)]
    merged = model_stock([D1, D1 + D2], filter_wise=True)
    torch.testing.assert_close(merged, torch.stack(rows))
    close(merged[0], [1.222966, -0.917224, 0, -2.751673])


def test_filters_of_a_kernel_are_its_vectors_along_the_last_axis():
    one = torch.arange(24.0).reshape(2, 3, 4)
    other = one.flip(0)
    expected = model_stock([one.reshape(6, 4), other.reshape(6, 4)], filter_wise=True)
    torch.testing.assert_close(
        model_stock([one, other], filter_wise=True), expected.reshape(2, 3, 4)
    )


def test_a_vector_is_one_filter():
    one, other = torch.tensor([1.0, 2, 3]), torch.tensor([2.0, 1, 5])
    torch.testing.assert_close(
        model_stock([one, other], filter_wise=True), model_stock([one, other])
    )


def test_small_tensors_are_merged_like_large_ones():
    small, large = model_stock([1e-6 * D1, 1e-6 * (D1 + D2)]), model_stock([D1, D1 + D2])
    torch.testing.assert_close(small * 1e6, large)
    tiny = model_stock([1e-30 * EAST, 1e-30 * EAST])
    torch.testing.assert_close(tiny, 1e-30 * EAST)


def test_least_product_of_norms_puts_small_tensors_back_to_the_base():
    small = [1e-4 * E1] * 2
    close(model_stock(small) * 1e4, [2.0, -1.0])
    close(model_stock(small, norms_at_least=1e-6) * 1e4, [0.190476, -0.095238])
    close(model_stock([1e-3 * E1] * 2, norms_at_least=1e-6) * 1e3, [2.0, -1.0])


def test_zero_task_vectors_are_at_right_angles_to_everything():
    assert model_stock([torch.zeros(2), torch.zeros(2)]).tolist() == [0, 0]
    assert model_stock([E1, torch.zeros(2)]).tolist() == [0, 0]
    assert model_stock([E1, torch.zeros(2)], average="angle").tolist() == pytest.approx([0, 0])


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 3), (3, 0)])
@pytest.mark.parametrize("filter_wise", [False, True])
def test_odd_shapes_keep_their_shape(shape, filter_wise):
    merged = model_stock([torch.ones(shape)] * 2, filter_wise=filter_wise)
    torch.testing.assert_close(merged, torch.ones(shape))

"""SCE: what is selected, what is weighed, and what three implementations make of it."""

import torch

from engine.methods.sce import sce

D1 = torch.tensor([[1.0, -2, 3, -4], [5, 6, -7, 8]])
D2 = torch.tensor([[2.0, 1, -6, -1], [-3, 4, 7, 5]])


def test_three_entries_vary_most():
    expected = torch.tensor([[0.0, 0, -6, 0], [5, 0, 7, 0]])
    torch.testing.assert_close(sce([D1, D2], select_topk=0.375), expected)


def test_entries_that_do_not_vary_are_not_counted():
    merged = sce([torch.tensor([5.0, 1, 2, 3]), torch.tensor([5.0, 2, 4, 9])], select_topk=0.4)
    torch.testing.assert_close(merged, torch.tensor([0, 0, 0, 9 * 81 / 90 + 3 * 9 / 90]))


def test_nothing_selected_gives_the_base():
    assert not sce([D1, D2], select_topk=0.0).any()


def test_small_task_vectors_weigh_the_same_only_where_asked():
    first, second = 1e-5 * D1, 3e-5 * D2.abs() * D1.sign()
    weighed, uniform = sce([first, second]), sce([first, second], least=1e-6)
    assert not torch.allclose(weighed, uniform, rtol=1e-3)
    torch.testing.assert_close(uniform, (first + second) / 2)


def test_models_that_are_alike_are_given_back():
    torch.testing.assert_close(sce([D1, D1], select_topk=1.0), D1)
    assert not sce([D1, D1], select_topk=0.5).any()  # nothing varies

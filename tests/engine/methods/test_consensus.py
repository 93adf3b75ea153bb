"""Consensus merging, by hand on the fixture of two models."""

import torch

from engine.methods.consensus import consensus
from engine.methods.task_arithmetic import task_arithmetic

D1 = torch.tensor([[1.0, -2, 3, -4], [5, 6, -7, 8]])
D2 = torch.tensor([[2.0, 1, -6, -1], [-3, 4, 7, 5]])


def test_with_two_models_an_entry_is_needed_if_it_is_no_small_part_of_the_other():
    # |δ1| against |δ2|: 1:2, 2:1, 3:6, 4:1 / 5:3, 6:4, 7:7, 8:5
    kept = consensus([D1, D2], threshold=0.55)
    assert kept.tolist() == [[0, 0, 0, 0], [2, 10, 0, 13]]
    kept = consensus([D1, D2], threshold=0.5)
    assert kept.tolist() == [[3, -1, -3, 0], [2, 10, 0, 13]]


def test_entries_that_one_task_needs_are_kept_if_one_is_enough():
    assert torch.equal(consensus([D1, D2], at_least=1), task_arithmetic([D1, D2]))
    assert torch.equal(consensus([D1, D2], at_least=0), task_arithmetic([D1, D2]))


def test_three_tasks_two_of_which_need_an_entry():
    models = [torch.tensor([x]) for x in (4.0, 4.0, 0.1)]
    assert consensus(models).tolist() == [8.100000381469727]
    assert consensus([torch.tensor([x]) for x in (9.0, 0.1, 0.1)]).tolist() == [0]

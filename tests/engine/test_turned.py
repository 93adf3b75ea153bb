"""Turned: tensors whose entries changed places, or were carried over."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.reader import Reader
from engine.source import load
from engine.turned import carried, turned


def loaded(parent, name):
    with Reader() as reader:
        return load(reader, parent.tensors[name])


def test_an_order_says_where_each_entry_comes_from(make_parent):
    parent = make_parent("a", {"w": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2)})
    orders = {("w", 1): torch.tensor([2, 0, 1]), ("w", 0): torch.tensor([1, 0])}
    made = turned(parent, parent.tensors, orders)
    assert loaded(made, "w").tolist() == [[5, 3, 4], [2, 0, 1]]
    assert made.tensors["b"] is parent.tensors["b"]
    assert loaded(parent, "w").tolist() == [[0, 1, 2], [3, 4, 5]]


def test_what_stays_in_order_keeps_its_source(make_parent):
    parent = make_parent("a", {"w": torch.ones(2, 3)})
    assert turned(parent, parent.tensors, {("w", 1): torch.arange(3)}) is parent


def test_a_map_gives_weighted_sums_along_its_axis(make_parent):
    parent = make_parent("a", {"w": torch.tensor([[1.0, 2], [3, 4], [5, 6]])})
    halves = torch.tensor([[1.0, 0], [0.5, 0.5], [0, 1]])
    made = carried(parent, parent.tensors, {("w", 0): halves})
    assert made.tensors["w"].shape == (2, 2)
    assert loaded(made, "w").tolist() == [[2.5, 4], [6.5, 8]]


@given(st.permutations(range(4)), st.permutations(range(3)))
def test_a_permutation_matrix_does_what_its_order_does(rows, columns):
    tensor = torch.arange(12.0).reshape(4, 3)
    orders = {0: torch.tensor(rows), 1: torch.tensor(columns)}
    moved = tensor[orders[0]][:, orders[1]]
    by_matrix = tensor
    for axis, order in orders.items():
        matrix = torch.eye(len(order))[order].T
        by_matrix = torch.tensordot(by_matrix, matrix, dims=([axis], [0])).movedim(-1, axis)
    assert torch.equal(moved, by_matrix)

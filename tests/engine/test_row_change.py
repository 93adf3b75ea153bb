"""What happens to rows, in words."""

import pytest

from engine.row_change import RowChange, summaries, what_happens


@pytest.mark.parametrize(
    ("picks", "had", "stays", "what"),
    [
        (None, False, False, "filled"),
        ((), True, False, "zero"),
        (((0, 3),), True, True, "moved"),
        (((1, 3),), True, False, "replaced"),
        (((1, 3),), False, False, "added"),
        (((1, 3), (2, 3)), False, False, "averaged"),
    ],
)
def test_each_way_to_make_a_row_has_a_word(picks, had, stays, what):
    assert what_happens(picks, had=had, stays=stays) == what


def test_changes_are_summed_up_by_model_and_padding_is_apart():
    changes = [
        RowChange("a", "x", 3, "added"),
        RowChange("a", "y", 4, "added"),
        RowChange("b", "", 9, "dropped"),
        RowChange("a", "", 5, "dropped"),
    ]
    assert summaries(changes) == [
        "a: rows of tokens 2 added, 1 dropped (padding)",
        "b: rows of tokens 1 dropped (padding)",
    ]

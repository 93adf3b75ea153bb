"""Methods that suit: what the sizes of task vectors call for."""

import pytest

from registry.suggestion import SCALE_RATIO, suggest

NAMES = {"a": "chat", "b": "math", "o": "base"}


def rows(a, b, within=0.5):
    return {m: {"rms": size, "within_005": within} for m, size in (("a", a), ("b", b))}


def methods(found):
    return [s.method for s in found]


def test_without_sizes_the_average_is_suggested():
    assert methods(suggest(["a", "b"], "o", NAMES, {})) == ["linear", "slerp"]
    assert methods(suggest(["a", "b", "c"], None, NAMES, {})) == ["linear"]
    assert suggest(["a", "b"], None, NAMES, rows(1, 1))[0].parameters == {"weight": 0.5}


@pytest.mark.parametrize(
    ("ratio", "first"), [(SCALE_RATIO * 0.99, "task_arithmetic"), (SCALE_RATIO * 1.01, "widen")]
)
def test_sizes_far_apart_call_for_widen(ratio, first):
    found = suggest(["a", "b"], "o", NAMES, rows(0.001, 0.001 * ratio))
    assert found[0].method == first
    assert ("math moved" in found[0].why) == (first == "widen")


def test_small_deltas_may_be_dropped():
    assert methods(suggest(["a", "b"], "o", NAMES, rows(1, 1, 0.995)))[-1] == "dare_linear"
    assert "dare_linear" not in methods(suggest(["a", "b"], "o", NAMES, rows(1, 1, 0.98)))


def test_one_model_and_its_base_take_the_whole_delta():
    assert suggest(["a", "o"], "o", NAMES, rows(1, 1))[0].parameters == {"lambda": 1.0}

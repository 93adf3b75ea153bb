"""Settings: one value, a gradient over layers, or values by name, with mergekit's meaning."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.setting import Filtered, Gradient, first_of, parse, plain, resolve, scalars, varies
from registry.errors import BadRecipe

values = (
    st.floats(-1, 1).map(lambda x: round(x, 3)) | st.booleans() | st.sampled_from(["sum", "count"])
)
gradients = st.lists(st.floats(-1, 1), min_size=1, max_size=4)
cases = st.lists(
    st.fixed_dictionaries({"value": values | gradients}, optional={"filter": st.sampled_from(["mlp", "attn"])}),
    min_size=1, max_size=3,
)  # fmt: skip
settings_ = (values | gradients | cases).map(lambda value: parse(value, "it"))
NAMES = st.sampled_from(["layers.0.mlp.up", "layers.0.attn.q", "norm"])


@given(setting=settings_)
def test_law_plain_values_are_read_back(setting):
    assert parse(plain(setting), "it") == setting


@given(chain=st.lists(st.none() | settings_, max_size=4), name=NAMES, depth=st.floats(0, 1))
def test_law_the_first_that_says_something_is_heard(chain, name, depth):
    said = [resolve(s, name, depth) for s in chain if s is not None]
    expected = next((value for value in said if value is not None), None)
    found = first_of(*chain)
    if found is not None:
        assert resolve(found, name, depth) == expected
    else:
        assert not any(
            s is not None and resolve(s, "nothing fits this", 0.0) is not None for s in chain
        )


@given(low=st.floats(-1, 1), high=st.floats(-1, 1), depth=st.floats(0, 1))
def test_law_gradients_stay_between_their_ends(low, high, depth):
    gradient = Gradient((low, high))
    assert min(low, high) - 1e-12 <= gradient.at(depth) <= max(low, high) + 1e-12
    assert (gradient.at(0.0), gradient.at(1.0)) == (low, high)


def test_gradients_are_interpolated_between_their_steps():
    assert [Gradient((0.0, 1.0, 0.5)).at(t) for t in (0, 0.25, 0.5, 0.75, 1)] == [
        0,
        0.5,
        1,
        0.75,
        0.5,
    ]
    assert [Gradient(("sum", "count")).at(t) for t in (0.0, 0.9, 1.0)] == ["sum", "sum", "count"]
    assert Gradient((0.3,)).at(0.7) == 0.3


def test_the_first_filter_that_fits_counts():
    setting = parse([{"filter": "mlp", "value": [0, 1]}, {"filter": "*", "value": 7}], "it")
    assert setting == Filtered((("mlp", Gradient((0, 1))), ("", 7)))
    assert resolve(setting, "layers.3.mlp.up", 0.5) == 0.5
    assert resolve(setting, "layers.3.attn", 0.5) == 7
    assert resolve(parse({"filter": "mlp", "value": 3}, "it"), "attn", 0.0) is None
    assert list(scalars(setting)) == [0, 1, 7]
    assert varies(setting)
    assert not varies(parse([2, 2], "it"))


@pytest.mark.parametrize(
    "value", [None, [], {}, [[1]], [None], [{"filter": "a"}], [{"value": 1}, 2], object()]
)
def test_other_forms_are_refused_by_name(value):
    with pytest.raises(BadRecipe, match="parameter weight"):
        parse(value, "parameter weight")

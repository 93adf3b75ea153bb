"""Twins: copies and casts are told, and in which direction; all others are not."""

from itertools import permutations

import numpy as np
import pytest
from descent_patches import drawn, network, rounded, sketch_of, tuned
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.descent.bucket import gather
from engine.descent.twin import Twin, twins


def found(*models, **options):
    """The twins among models given as pairs of a dtype and tensors."""
    pairs = enumerate(models)
    return twins(gather([sketch_of(t, f"m{i}", dtype=d, **options) for i, (d, t) in pairs]))


def test_a_copy_is_a_copy_of_the_first():
    one, other = network(1), network(2)
    made = found(("F32", one), ("F32", other), ("F32", one), ("F32", one))
    assert made == [Twin(2, 0, "copy", lossy=False), Twin(3, 0, "copy", lossy=False)]


def fitting(seed):
    """A network whose numbers BF16 holds, and F16 too."""
    return rounded(rounded(network(seed), "BF16"), "F16")


def origins(**models):
    """The same by names: of each twin, what it is one of, which and whether numbers were lost; one answer in all orders."""
    told = set()
    for names in permutations(models):
        made = found(*(models[name] for name in names))
        told.add(frozenset((names[t.model], names[t.of], t.kind, t.lossy) for t in made))
    (answer,) = told
    return answer


@pytest.mark.parametrize("dtypes", [("BF16", "F32"), ("F16", "F32"), ("F16", "F64")])
def test_the_same_numbers_in_a_wider_dtype_are_the_cast(dtypes):
    exact = {"w": np.array([[1.0, 0.5], [-2.0, 0.0]], np.float32)}
    narrow, wide = ((dtype, exact) for dtype in dtypes)
    assert origins(narrow=narrow, wide=wide) == {("wide", "narrow", "cast", False)}


@pytest.mark.parametrize(("own", "other"), [("BF16", "F16"), ("F16", "BF16")])
def test_of_the_same_numbers_in_two_dtypes_that_of_the_kin_came_first(own, other):
    exact = fitting(1)
    child = own, rounded(tuned(exact, 2), own)
    made = origins(model=(own, exact), half=(other, exact), child=child)
    assert made == {("half", "model", "cast", False)}


def test_strangers_and_other_twins_are_no_kin_that_tell():
    exact, odd, strange = fitting(1), fitting(2), ("BF16", rounded(network(3), "BF16"))
    child = "F16", rounded(tuned(exact, 4), "F16")
    made = twins(
        gather([
            sketch_of(t, name, dtype=d)
            for name, (d, t) in {
                "a": ("BF16", exact), "b": strange, "c": ("F16", exact), "d": child, "e": ("BF16", odd),
                "f": ("F16", odd), "g": ("BF16", odd),
            }.items()
        ])
    )  # fmt: skip
    assert made == [
        Twin(0, 2, "cast", lossy=False), Twin(5, 4, "cast", lossy=False), Twin(6, 4, "copy", lossy=False),
    ]  # fmt: skip


def test_kin_that_need_a_wide_dtype_are_no_sign_that_numbers_that_do_not_were_in_it():
    exact = fitting(1)
    twin = {"narrow": ("BF16", exact), "wide": ("F32", exact)}
    finer, coarse = tuned(exact, 2), rounded(tuned(exact, 2), "BF16")
    assert origins(**twin, child=("F32", finer)) == {("wide", "narrow", "cast", False)}
    assert origins(**twin, child=("F32", coarse)) == {("narrow", "wide", "cast", False)}


def test_a_rounded_model_in_a_wide_dtype_again_is_a_cast_of_the_rounded_one():
    exact = network(1)
    coarse = rounded(exact, "BF16")
    child = "F32", rounded(tuned(exact, 2), "BF16")
    made = origins(exact=("F32", exact), narrow=("BF16", coarse), wide=("F32", coarse), child=child)
    assert made == {("narrow", "exact", "cast", True), ("wide", "narrow", "cast", False)}


@pytest.mark.parametrize(
    ("fine", "coarse"), [("F32", "BF16"), ("F32", "F16"), ("F64", "BF16"), ("F16", "BF16")]
)
@pytest.mark.parametrize("n_scalars", [None, 512])
def test_a_rounded_model_is_a_cast_of_the_finer_one_whichever_comes_first(fine, coarse, n_scalars):
    exact = rounded(network(1), fine)
    pair = (fine, exact), (coarse, rounded(exact, coarse))
    assert found(*pair, n_scalars=n_scalars) == [Twin(1, 0, "cast", lossy=True)]
    assert found(*pair[::-1], n_scalars=n_scalars) == [Twin(0, 1, "cast", lossy=True)]


def test_two_casts_of_one_model_are_both_its_own():
    exact = network(1)
    made = found(*((dtype, rounded(exact, dtype)) for dtype in ("BF16", "F16", "F32")))
    assert made == [Twin(0, 2, "cast", lossy=True), Twin(1, 2, "cast", lossy=True)]


def test_a_copy_of_a_cast_is_a_copy_and_the_cast_a_cast():
    exact = network(1)
    coarse = rounded(exact, "BF16")
    made = found(("BF16", coarse), ("BF16", coarse), ("F32", exact))
    assert made == [Twin(1, 0, "copy", lossy=False), Twin(0, 2, "cast", lossy=True)]


def test_every_model_is_at_most_one_twin_and_never_its_own():
    exact, dtypes = network(1), ("BF16", "F32", "F16", "BF16", "F32", "F16")
    made = found(*((dtype, rounded(exact, dtype)) for dtype in dtypes))
    assert sorted(t.model for t in made) == [0, 2, 3, 4, 5]
    assert all(t.model != t.of for t in made)


def test_fine_tunes_and_strangers_are_no_twins():
    base = network(1)
    assert (
        found(("F32", base), ("F32", tuned(base, 1)), ("BF16", rounded(network(2), "BF16"))) == []
    )


def test_a_rounded_fine_tune_is_no_cast_of_its_parent():
    base = network(1)
    assert found(("F32", base), ("BF16", rounded(tuned(base, 1), "BF16"))) == []


@given(st.integers(0, 4095), st.sampled_from(["F32", "BF16"]))
@settings(max_examples=30, deadline=None)
def test_one_other_number_makes_no_twin(place, dtype):
    exact = {"w": drawn(1, 64, 64)}
    other = rounded(exact, dtype)
    other["w"].reshape(-1)[place] += 1
    assert found(("F32", exact), (dtype, other)) == []


def test_a_model_in_the_coarser_dtype_whose_numbers_are_not_rounded_is_none():
    made = found(("F32", {"w": np.array([[1 + 2.0**-9]])}), ("BF16", {"w": np.array([[1.5]])}))
    assert made == []


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_a_longer_vocabulary_is_no_twin(dtype):
    short, long = network(1, tokens=24), network(1, tokens=30)
    for name in ("embed_tokens.weight", "lm_head.weight"):
        long[name][:24] = short[name]
    assert found(("F32", short), (dtype, rounded(long, dtype))) == []


def test_minus_0_is_0():
    a, b = ({"w": np.array([[1.0, zero]], np.float32)} for zero in (0.0, -0.0))
    assert found(("F32", a), ("F32", b)) == [Twin(1, 0, "copy", lossy=False)]


def test_models_of_zeros_are_copies():
    zeros = {"w": np.zeros((3, 3), np.float32)}
    assert found(("F32", zeros), ("F32", zeros)) == [Twin(1, 0, "copy", lossy=False)]


def test_vectors_are_compared_too():
    base = {"w": drawn(1, 4, 4), "v": drawn(2, 4)}
    moved = base | {"v": base["v"] + 1}
    assert found(("F32", base), ("F32", moved)) == []
    alone = {"v": base["v"]}
    assert found(("F32", alone), ("F32", alone)) == [Twin(1, 0, "copy", lossy=False)]


def test_one_model_is_no_twin():
    assert found(("F32", network(1))) == []


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_models_of_which_nothing_was_compared_are_no_twins(dtype):
    a, b = {"w": np.zeros((0, 4), np.float32)}, {"w": np.zeros((0, 4), np.float32)}
    assert found(("F32", a), (dtype, b)) == []


def test_a_cast_of_two_finer_ones_is_told_once():
    exact = {"w": np.array([[1 + 2.0**-12, 1 + 2.0**-9 + 2.0**-12]], np.float32)}
    made = origins(**{dtype: (dtype, rounded(exact, dtype)) for dtype in ("F32", "F16", "BF16")})
    assert made == {("F16", "F32", "cast", True), ("BF16", "F32", "cast", True)}

"""Rounding once: to the nearest value, or without bias, and what was lost."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.arithmetic import rounded
from engine.pin import pin
from engine.planner import make_plan
from engine.recipe_file import recipe_from_text
from engine.run import run_plan

CODES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64}


class Stand:
    """As much of a plan and of a step as rounding asks for."""

    def __init__(self, dtype, rounding="stochastic", seed=0):
        self.recipe, self.rounding, self.seed, self.dtype, self.name = (
            self,
            rounding,
            seed,
            dtype,
            "w",
        )


def cast(values, dtype, **options):
    start = options.pop("start", 0)
    stand = Stand(dtype, **options)
    return rounded(stand, stand, values, start)


@given(
    st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=30),
    st.sampled_from(sorted(CODES)),
)
def test_law_the_result_is_a_neighbour(numbers, dtype):
    values = torch.tensor(numbers, dtype=torch.float32)
    out = cast(values, dtype)
    assert out.dtype == CODES[dtype]
    near = values.to(CODES[dtype])
    up, down = (
        torch.nextafter(near, torch.tensor(x).to(near.dtype)) for x in (torch.inf, -torch.inf)
    )
    same = out == near
    assert bool((same | (out == up) | (out == down)).all())
    exact = near.double() == values.double()
    assert bool(same[exact].all())


def test_the_mean_is_kept():
    values = torch.full((200_000,), 1 + 2**-10)  # an eighth of the way from 1 to the next bfloat16
    out = cast(values, "BF16").float()
    assert set(out.tolist()) == {1.0, 1 + 2**-7}
    assert abs(float((out > 1).float().mean()) - 0.125) < 0.005
    assert bool((cast(values, "BF16", rounding="nearest") == 1).all())


def test_law_slices_are_rounded_as_the_whole():
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    whole = cast(values, "BF16")
    assert torch.equal(whole[300:700], cast(values[300:700], "BF16", start=300))
    assert not torch.equal(whole, cast(values, "BF16", seed=1))


def test_numbers_near_the_largest_do_not_become_infinite():
    largest = torch.finfo(torch.bfloat16).max
    assert cast(torch.full((100,), largest), "BF16").isfinite().all()


@pytest.mark.parametrize(("rounding", "moves"), [("nearest", False), ("stochastic", True)])
def test_small_changes_are_lost_or_kept_in_the_mean(
    rounding, moves, make_parent, planned, tmp_path
):
    base = make_parent("base", {"w": torch.ones(4000, dtype=torch.bfloat16)})
    model = make_parent("model", {"w": torch.full((4000,), 1 + 2**-7, dtype=torch.bfloat16)})

    text = f"merge_method: task_arithmetic\nmodels: [m]\nparameters: {{weight: 0.125}}\nround: {rounding}\n"
    plan = make_plan(pin(recipe_from_text(text), base.id, [model.id]), base, [model])
    change = run_plan(plan, tmp_path, metadata={}).change
    assert change.n_lost == 4000 - change.n_changed
    assert (change.n_changed > 0) == moves
    if moves:
        assert abs(change.n_changed / 4000 - 0.125) < 0.03

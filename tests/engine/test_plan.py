"""Plans: what they cost in memory, whatever the models' size and number."""

import dataclasses

import pytest
import torch

from engine.parent import Parent
from engine.plan import CHUNK, LEAST_UNIT_BYTES, UNIT_BYTES

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def state(seed=0, **more):
    generator = torch.Generator().manual_seed(seed)
    made = {
        EMBED: torch.randn((6, 4), generator=generator),
        "w": torch.randn(5, generator=generator),
    }
    return {**made, **{name.replace("__", "."): tensor for name, tensor in more.items()}}


def steps(plan):
    return {step.name: step for step in plan.steps}


def parents_of_size(n_models, n_params, small):
    """Parents that claim to have one huge matrix."""
    ref = dataclasses.replace(
        small.checkpoint.tensors[0], shape=(n_params // 2, 2), n_bytes=n_params * 4
    )
    checkpoint = dataclasses.replace(small.checkpoint, tensors=(ref,))
    return [Parent(str(i) * 64, str(i), checkpoint, {}) for i in range(n_models)]


@pytest.mark.parametrize("n_models", [1, 2, 10, 100, 900])
def test_sliced_methods_need_the_same_memory_for_any_size_and_number_of_models(
    n_models, make_parent, planned
):
    small = make_parent("small", {"w": torch.ones(2, 2)})
    for n_params in (10**6, 10**12):
        plan = planned("linear", parents_of_size(n_models, n_params, small))
        assert plan.chunk_within(1 << 40) <= CHUNK
        assert plan.peak_bytes(1) <= UNIT_BYTES
        assert plan.peak_bytes(16) <= 512 << 20
        for given in (200 << 20, 1 << 20):
            assert plan.peak_bytes(1, given) <= max(given // 4, LEAST_UNIT_BYTES)
        assert plan.peak_bytes(1, 1) < 32 << 20


@pytest.mark.parametrize("method", ["linear", "ties", "ram"])
@pytest.mark.parametrize("jobs", [1, 2, 4, 16])
def test_every_thread_has_room_for_a_slice(method, jobs, make_parent, planned):
    small = make_parent("small", {"w": torch.ones(2, 2)})
    base, *models = parents_of_size(4, 10**9, small)
    plan = planned(method, models, base=None if method == "linear" else base)
    for given in (512 << 20, 4 << 30):
        assert plan.peak_bytes(jobs, given) <= plan.unit_room(given) == given - (16 << 20)


def test_peak_counts_every_slice_that_runs_at_once(make_parent, planned):
    small = make_parent("small", {"w": torch.ones(2, 2)})
    plan = planned("linear", parents_of_size(2, 10**8, small))
    assert plan.peak_bytes(4) == 4 * plan.peak_bytes(1)
    surveyed = planned("slerp", list(plan.models))
    assert surveyed.peak_bytes(4) == surveyed.peak_bytes(1) <= UNIT_BYTES
    assert surveyed.peak_bytes(4, 1) == surveyed.peak_bytes(1, 1) < 32 << 20
    whole = planned("tsv_merge", list(plan.models), base=plan.models[0])
    assert whole.peak_bytes(4) == whole.peak_bytes(1) > 10**8 * 4 * 3


def test_slices_of_rows_are_whole_rows_and_surveyed_ones_whole_slabs(make_parent, planned):
    small = make_parent("small", {"w": torch.ones(2, 2)})
    for columns, height in ((10, 64), (500_000, 1)):
        shape = (1000, columns)
        ref = dataclasses.replace(small.checkpoint.tensors[0], shape=shape, n_bytes=4000 * columns)
        parents = [
            Parent(str(i) * 64, str(i), dataclasses.replace(small.checkpoint, tensors=(ref,)), {})
            for i in range(2)
        ]
        rows = planned("della", parents[1:], base=parents[0])
        assert rows.slice_elements(rows.steps[0], 1) == columns
        slabs = planned("della", parents[1:], base=parents[0], rescale_by="l1")
        assert slabs.slice_elements(slabs.steps[0], 1) == height * columns
        assert slabs.surveys(slabs.steps[0]) == "tensor"
        assert slabs.peak_bytes(1, 1) <= 64 << 20


def test_what_needs_more_memory_is_named(make_parent, planned):
    small = make_parent("small", {"w": torch.ones(2, 2)})
    models = parents_of_size(2, 10**8, small)
    plan = planned("tsv_merge", models, base=models[0])
    need = plan.peak_bytes(1)
    assert plan.beyond(need) is None
    said = "tsv_merge works on whole tensors: w needs"
    assert (
        plan.beyond(need - 1) == f"{said} {need:,} bytes of memory at once, more than {need - 1:,}"
    )


def test_nothing_needs_no_memory(make_parent, planned):
    one = make_parent("one", {"nothing": torch.empty(0, 3), "w": torch.ones(1)})
    assert planned("slerp", [one, one]).peak_bytes(2) < 1000

"""Ranges: everything asked for is covered, and nothing is read that is not worth a request."""

from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from registry.ranges import NEAR_BYTES, Range, joined

A, B = Path("a"), Path("b")


def pairs(ranges):
    return [(str(r.file), r.start, r.stop) for r in ranges]


def test_ranges_that_touch_or_nearly_do_are_one():
    found = joined(
        [Range(A, 10, 20), Range(A, 0, 10), Range(A, 15, 30), Range(A, 50, 60), Range(B, 0, 5)],
        most_bytes=1000,
        few=32,
    )
    assert pairs(found) == [("a", 0, 60), ("b", 0, 5)]


def test_far_ones_stay_apart_while_they_are_few():
    far = [Range(A, at, at + 10) for at in (0, 10 * NEAR_BYTES, 30 * NEAR_BYTES)]
    assert joined(far, most_bytes=1 << 30, few=3) == far


def test_of_too_many_the_smallest_gaps_are_closed():
    far = [Range(A, at * NEAR_BYTES, at * NEAR_BYTES + 10) for at in (0, 10, 13, 30)]
    found = joined(far, most_bytes=1 << 30, few=3)
    assert pairs(found) == [
        ("a", 0, 10), ("a", 10 * NEAR_BYTES, 13 * NEAR_BYTES + 10),
        ("a", 30 * NEAR_BYTES, 30 * NEAR_BYTES + 10),
    ]  # fmt: skip


def test_gaps_are_closed_only_while_there_is_room():
    near = [Range(A, 0, 10), Range(A, 15, 20), Range(A, 40, 50)]
    assert pairs(joined(near, most_bytes=30, few=1)) == [("a", 0, 20), ("a", 40, 50)]
    assert joined(near, most_bytes=0, few=1) == near


RANGES = st.lists(
    st.builds(
        lambda file, start, size: Range(file, start, start + size),
        st.sampled_from((A, B)),
        st.integers(0, 40 * NEAR_BYTES),
        st.integers(1, 3 * NEAR_BYTES),
    ),
    max_size=12,
)


@given(ranges=RANGES, most=st.integers(0, 1 << 24), few=st.integers(1, 12))
def test_all_is_covered_in_order_and_gaps_cost_no_more_than_allowed(ranges, most, few):
    found = joined(ranges, most_bytes=most, few=few)
    assert found == sorted(found)
    assert all(a.stop < b.start for a, b in pairwise(found) if a.file == b.file)
    for asked in ranges:
        assert any(
            r.file == asked.file and r.start <= asked.start and asked.stop <= r.stop for r in found
        )
    needed = sum(r.size for r in joined(ranges, most_bytes=0, few=1))
    total = sum(r.size for r in found)
    assert needed <= total <= max(needed, most)
    assert joined(found, most_bytes=most, few=few) == found

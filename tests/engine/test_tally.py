"""Tallies: the same sums and digests in whatever order units are done, and numbers that survive being text."""

import json
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.edits import EditError
from engine.run import Change
from engine.tally import Tally, numbers_of, record_of
from engine.writer import OutputTensor, Writer, shards_of
from registry.fingerprint import digest_tensors
from registry.progress import SILENT

TENSORS = [
    OutputTensor("a", "F32", (10,), 40),
    OutputTensor("b", "F32", (3, 4), 48),
    OutputTensor("c", "F32", (0,), 0),
]
floats = st.floats(allow_nan=False)
counts = st.integers(0, 2**62)
changes = st.builds(
    Change, n=counts, n_changed=counts, n_lost=counts, sum_sq=floats, base_sum_sq=floats, max_abs=floats,
    edit=st.builds(EditError, counts, floats, floats, floats),
)  # fmt: skip


@given(changes)
def test_a_change_survives_being_text_to_the_last_bit(change):
    text = json.dumps(numbers_of(change))
    found = record_of(Change(), json.loads(text))
    assert found == change
    assert repr(found) == repr(change)


@pytest.mark.parametrize(
    "numbers",
    [{}, {"n": 1}, {**numbers_of(Change()), "more": 1}, {**numbers_of(Change()), "n": 1.0}],
)
def test_other_numbers_are_no_change(numbers):
    assert record_of(Change(), numbers) is None


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_units_changes_nothing(seed, tmp_path):
    units = [(t, i) for t in TENSORS for i in range(t.n_bytes // 4)]
    with Writer(tmp_path, shards_of(TENSORS), {}) as writer:
        for tensor in TENSORS:
            writer.write(tensor.name, 0, memoryview(bytes(range(tensor.n_bytes))))
        tallies = [Tally(writer, None, Change()) for _ in range(2)]
        shuffled = random.Random(seed).sample(units, len(units))
        for tally, order in zip(tallies, (units, shuffled), strict=True):
            for t, i in order:
                assert t.name not in tally.sums
                tally.add(t.name, (i, i + 1), t.n_bytes // 4, Change(n=1, sum_sq=0.1 * i))
        expected = digest_tensors(writer.refs.values())
        assert tallies[0].sums == tallies[1].sums
        assert tallies[0].sums.keys() == {"a", "b"}
        assert tallies[0].total() == tallies[1].total()
        assert tallies[0].total().n == 22
        assert all(tally.all_digests(1) == expected for tally in tallies)


def test_without_a_journal_nothing_is_resumed(tmp_path):
    with Writer(tmp_path, shards_of(TENSORS), {}) as writer:
        tally = Tally(writer, None, Change())
        assert tally.resume(1, SILENT) == 0
        assert tally.total() == replace(Change())

"""Tallies: the same sums and digests in whatever order units are done, and numbers that survive being text."""

import json
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import tally
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
        both = [Tally(writer, None, Change()) for _ in range(2)]
        shuffled = random.Random(seed).sample(units, len(units))
        for each, order in zip(both, (units, shuffled), strict=True):
            for t, i in order:
                assert t.name not in each.sums
                each.add(t.name, (i, i + 1), t.n_bytes // 4, Change(n=1, sum_sq=0.1 * i))
        expected = digest_tensors(writer.refs.values())
        assert both[0].sums == both[1].sums
        assert both[0].sums.keys() == {"a", "b"}
        assert both[0].total() == both[1].total()
        assert both[0].total().n == 22
        assert all(each.all_digests(1) == expected for each in both)


@pytest.mark.parametrize(("seed", "waiting"), [(0, 100), (1, 100), (0, 0), (1, 0)])
def test_what_is_written_is_digested_in_whatever_order_it_comes(
    seed, waiting, tmp_path, monkeypatch
):
    monkeypatch.setattr(tally, "WAITING_BYTES", waiting)
    units = [(t, i) for t in TENSORS for i in range(t.n_bytes // 4)]
    random.Random(seed).shuffle(units)
    with Writer(tmp_path, shards_of(TENSORS), {}) as writer:
        one = Tally(writer, None, Change())
        for t, i in units:
            one.write(t.name, 4 * i, memoryview(bytes([i, 1, 2, 3])))
            one.add(t.name, (i, i + 1), t.n_bytes // 4, Change(n=1))
        assert one.all_digests(1) == digest_tensors(writer.refs.values())
        assert not one._digesting


def test_without_a_journal_nothing_is_resumed(tmp_path):
    with Writer(tmp_path, shards_of(TENSORS), {}) as writer:
        one = Tally(writer, None, Change())
        assert one.resume(1, SILENT) == 0
        assert one.total() == replace(Change())

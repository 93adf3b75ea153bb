"""Clans: whatever came and went in between, they are those of all models compared anew; and what is known is not read."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from descent_patches import network, rounded, sketch_of, tuned
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.descent.bucket import gather
from engine.descent.clan import Clan, Clans, clans_of
from engine.descent.forest import forest
from engine.descent.kin import components, may_be_kin
from engine.descent.recall import recalled_clans, remember_clans
from engine.descent.twin import Double, may_be_twins, twins


@dataclass
class Drawer:
    """A shelf that remembers what was taken from it."""

    values: dict = field(default_factory=dict)
    read: list = field(default_factory=list)

    def fetch(self, models):
        self.read += [model for model in models if model not in self.read]

    def of(self, model):
        if model not in self.read:
            self.fetch(sorted(self.values))
        return self.values[model]


def family(seed):
    """Kin of two generations, a copy of the first, the same in a wider dtype, and one of them rounded."""
    first = rounded(network(seed), "BF16")
    second, third = tuned(first, [seed, 1]), tuned(first, [seed, 2])
    return [
        ("BF16", first), ("F32", second), ("F32", third), ("F32", tuned(second, [seed, 3])), ("BF16", first),
        ("F32", first), ("BF16", rounded(second, "BF16")), ("F16", rounded(second, "F16")),
    ]  # fmt: skip


ALL = [
    *family(1),
    *family(2),
    ("F32", network(3)),
    ("BF16", {k: 0 * v for k, v in network(4).items()}),
]
SKETCHES = [sketch_of(t, f"m{7 * i % len(ALL):02}", dtype=d) for i, (d, t) in enumerate(ALL)]
SKETCHES.sort(key=lambda s: s.model)


def shelved(sketches):
    """The same on a shelf, and the shelf."""
    drawer = Drawer({s.model: s.values for s in sketches})
    return [replace(s, held=drawer) for s in sketches], drawer


def in_order(clans):
    return sorted(clans, key=lambda clan: clan.lines)


def grown(before, now):
    """Clans of some sketches, known those of some others; and whose values were read."""
    known = Clans()
    if before:
        known.add(before, clans_of(before))
    group, drawer = shelved(now)
    return in_order(known.grown(group)), drawer.read


def test_clans_are_kin_and_their_twins():
    sizes = sorted((len(clan.lines), len(clan.part)) for clan in clans_of(SKETCHES))
    assert sizes == [(1, 1), (1, 1), (8, 4), (8, 4)]
    for clan in clans_of(SKETCHES):
        assert clan.same.keys() == {line.split("\0")[0] for line in clan.lines}
        assert set(clan.same.values()) == set(clan.part)


some = st.sets(st.integers(0, len(SKETCHES) - 1), min_size=1)


@settings(max_examples=60, deadline=None)
@given(before=some, now=some)
def test_clans_that_grew_are_those_of_all_compared_anew(before, now):
    old, new = ([SKETCHES[i] for i in sorted(places)] for places in (before, now))
    assert grown(old, new)[0] == in_order(clans_of(new))


@pytest.mark.parametrize("out", range(len(SKETCHES)))
def test_one_model_more_or_less_is_as_if_it_had_always_been_so(out):
    rest = SKETCHES[:out] + SKETCHES[out + 1 :]
    assert grown(rest, SKETCHES)[0] == in_order(clans_of(SKETCHES))
    assert grown(SKETCHES, rest)[0] == in_order(clans_of(rest))


def test_of_what_is_known_nothing_is_read():
    assert grown(SKETCHES, SKETCHES) == (in_order(clans_of(SKETCHES)), [])
    one = clans_of(SKETCHES)[0]
    rest = [s for s in SKETCHES if s.line not in one.lines]
    assert grown(SKETCHES, rest) == (in_order(clans_of(rest)), [])


def test_what_changed_its_dtype_or_its_entries_is_another_model():
    changed = [replace(SKETCHES[0], dtype="F64"), *SKETCHES[1:]]
    assert grown(SKETCHES, changed)[0] == in_order(clans_of(changed))
    fewer = {name: v for name, v in network(9).items() if "norm" not in name}
    narrow = [*SKETCHES, sketch_of(fewer, "z")]  # all are compared on less
    found, read = grown(SKETCHES, narrow)
    assert found == in_order(clans_of(narrow))
    assert len(read) == len(narrow)


def test_the_glance_misses_no_kin_and_no_twin():
    bucket = gather(SKETCHES)
    for part in components(bucket):
        for one in part:
            assert may_be_kin(bucket, np.array([one]))[part].all() or len(part) == 1
    for twin in twins(bucket):
        assert may_be_twins(bucket, [twin.model])[twin.of]
        assert may_be_twins(bucket, [twin.of])[twin.model]


def test_the_glance_tells_most_strangers():
    bucket = gather([sketch_of(network(seed), f"m{seed}") for seed in range(12)])
    assert may_be_kin(bucket, np.array([3])).sum() <= 2
    assert may_be_twins(bucket, [3]).tolist() == [i == 3 for i in range(12)]


def test_a_forest_of_known_clans_is_that_of_none_and_knows_who_is_unsound():
    broken = SKETCHES[5].values.copy()
    broken[3] = np.nan
    given_ = [*SKETCHES, replace(SKETCHES[5], model="broken", held=broken)]
    first = forest(given_)
    group, drawer = shelved(given_)
    second = forest(group, (), first.components, first.clans)
    assert second == first
    assert first.unsound == ["broken"]
    assert drawer.read == []


def test_clans_come_back_as_they_were_and_other_rules_have_none(catalog, monkeypatch):
    assert recalled_clans(catalog, "s/1") == Clans()
    twin = Double("b", "a", "copy", lossy=False)
    kept = Clans(
        {"k": (Clan(("a\0F32\0x", "b\0F32\0x"), ("a",), (twin,)), Clan(("c",), ("c",)))}, ["d"]
    )
    for clans in (Clans(), kept):
        with catalog.write() as transaction:
            remember_clans(transaction, "s/1", clans)
    assert recalled_clans(catalog, "s/1") == kept
    assert recalled_clans(catalog, "s/2") == Clans()
    monkeypatch.setattr("engine.descent.recall.rules", lambda: "others")
    assert recalled_clans(catalog, "s/1") == Clans()

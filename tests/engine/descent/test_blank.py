"""Blanks: what was looked for in vain is not looked for again while what was looked at stays the same."""

from dataclasses import replace

import pytest
from descent_families import Family, put

from engine.descent.blank import Blanks
from engine.descent.bucket import Bucket, searched

SEEN: list[int] = []


@searched(2)
def nothing(bucket, child, near):
    """Finds nothing, and tells that it was asked."""
    SEEN.append(child)
    assert len(near) <= 2


@searched(1)
def something(bucket, child, near):
    """Finds the nearest."""
    SEEN.append(child)
    return near[0]


@pytest.fixture
def bucket():
    SEEN.clear()
    family = Family(3)
    base = family.base()
    models = {"b": base} | {f"m{i}": family.tuned(base, 0.02 * i) for i in (1, 2, 3)}
    return put(models, rows=8)[0]


def again(bucket: Bucket, **changed) -> Bucket:
    """The same bucket, or one that differs, with what is known of the first."""
    blanks = Blanks(bucket.blanks.rules, frozenset(bucket.blanks.met))
    return replace(bucket, **({"blanks": blanks} | changed))


def test_what_found_nothing_is_not_looked_for_again(bucket):
    assert nothing(bucket, 0, range(4)) is None
    second = again(bucket)
    assert nothing(second, 0, range(4)) is None
    assert SEEN == [0]
    assert second.blanks.met == bucket.blanks.met
    assert len(bucket.blanks.met) == 1


def test_what_found_something_is_looked_for_again(bucket):
    assert something(bucket, 0, range(4)) == something(again(bucket), 0, range(4)) == 1
    assert SEEN == [0, 0]
    assert bucket.blanks.met == set()


def test_only_what_is_looked_at_matters(bucket):
    nothing(bucket, 0, range(4))
    nothing(again(bucket), 0, [0, 1, 2])  # the third was not among the nearest
    assert SEEN == [0]
    nothing(again(bucket), 0, [0, 1, 3])
    nothing(again(bucket), 1, range(4))
    assert SEEN == [0, 0, 1]


def test_other_rules_entries_dtypes_or_models_are_looked_at_again(bucket):
    nothing(bucket, 0, range(4))
    met = frozenset(bucket.blanks.met)
    few, _ = put(dict(zip(bucket.models, [Family(3).base()] * 4, strict=True)), rows=4)
    others = (
        again(bucket, blanks=Blanks("other rules", met)),
        again(bucket, dtypes=("F32", *bucket.dtypes[1:])),
        again(bucket, models=("x", *bucket.models[1:])),
        replace(few, blanks=Blanks("", met)),
    )
    for other in others:
        nothing(other, 0, range(4))
    assert SEEN == [0] * 5


def test_parts_that_found_nothing_are_known_with_their_search():
    first, asked = Blanks("rules"), []

    def search(blanks, key, parts, found=None):
        def work():
            for part in parts:
                blanks.part(part, lambda part=part: asked.append(part))
            return found

        return blanks.search(key, work)

    search(first, "s", ["a", "b"])
    search(first, "t", ["c"], found="something")
    assert asked == ["a", "b", "c"]
    assert first.met == {"s a b"}
    second = Blanks("rules", frozenset(first.met))
    search(second, "s", ["a", "b"])  # is known
    search(second, "u", ["b", "d", "c"])  # looks at one more
    assert asked == ["a", "b", "c", "d", "c"]
    assert second.met == {"s a b", "u b d c"}
    assert second.part("e", lambda: 1) == 1
    assert second.parts == ["b", "d", "c"]


def test_searches_are_told_apart_by_their_names():
    blanks = Blanks("rules")
    keys = {blanks.key(*asked) for asked in (("a", "b"), ("b", "b"), ("a", "bc"), ("a", ("bc",)))}
    assert len(keys) == 4

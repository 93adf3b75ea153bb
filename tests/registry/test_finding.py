"""Findings: what they count as, and how they are told."""

from registry.finding import EXAMPLES, Finding, examples, in_order


def test_damage_remains_until_it_is_repaired_and_notes_never_do():
    damage = Finding("orphans", "edge", 3, "wrong", repair="removed")
    note = Finding("wal", "file", 1, "waits", is_damage=False)
    assert damage.remains
    assert not note.remains
    assert not damage.repaired().remains
    assert damage.repaired().repair == "removed"
    assert damage.repaired("done").repair == "done"
    assert in_order([note, damage]) == [damage, note]


def test_a_few_names_stand_for_many():
    assert examples([], 0) == ""
    assert examples("ab", 2) == "a, b"
    assert examples("abcdefgh", 8) == f"a, b, c, d, e and {8 - EXAMPLES} more"
    assert examples("ab", 2000) == "a, b and 1,998 more"

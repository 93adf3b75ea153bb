"""Numbers that are none."""

from torture.bad_input import Bad

CASES: list[Bad] = []

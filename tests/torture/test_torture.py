"""A slice of the torture, a part a test: the same parts as `make torture`, for less time."""

from pathlib import Path

import pytest
from torture.run import SHARES, trials

SECONDS = 120
"""Of all parts together."""


@pytest.mark.parametrize("part", SHARES)
def test_nothing_is_lost_or_let_in(part: str, tmp_path: Path) -> None:
    found = list(trials(1, SECONDS * SHARES[part], [part], tmp_path))
    assert found
    assert sum(trial.tries for trial in found) > 0
    assert [(trial.what, trial.details) for trial in found if not trial.clean] == []

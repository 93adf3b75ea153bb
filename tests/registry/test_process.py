"""Processes: alive, gone, or another one with the same number."""

import os
from datetime import UTC, datetime, timedelta

from registry.process import is_alive


def test_a_process_is_alive_or_not():
    assert is_alive(os.getpid())
    assert not is_alive(2**31 - 1)
    assert not is_alive(2**70)
    assert not is_alive(0)


def test_one_that_began_later_only_has_the_number():
    now = datetime.now(UTC)
    assert is_alive(os.getpid(), now)
    assert not is_alive(os.getpid(), now - timedelta(days=365))
    assert is_alive(os.getppid(), now)

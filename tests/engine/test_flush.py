"""Flushing beside the work: often enough, one at a time, and no error is lost."""

import os
from threading import Event

import pytest

from engine import flush
from engine.flush import Flush


@pytest.fixture
def flushed(monkeypatch):
    """The handles that were flushed, in order."""
    found = []
    monkeypatch.setattr(flush, "_sync", found.append)
    return found


def test_nothing_is_flushed_before_there_is_enough(flushed):
    one = Flush(100)
    one.wrote(7, 60)
    one.wrote(7, 30)
    one.finish()
    assert flushed == []


def test_all_files_written_since_the_last_flush_are_flushed_once(flushed):
    one = Flush(100)
    one.wrote(8, 60)
    one.wrote(7, 60)
    one.wrote(7, 10)
    one.finish()
    assert flushed == [7, 8]


def test_a_flush_begins_when_the_one_before_has_ended(monkeypatch):
    begun, go_on, found = Event(), Event(), []

    def slow(handle):
        begun.set()
        go_on.wait(10)
        found.append(handle)

    monkeypatch.setattr(flush, "_sync", slow)
    one = Flush(100)
    one.wrote(1, 100)
    assert begun.wait(10)
    one.wrote(2, 100)
    one.wrote(3, 100)
    go_on.set()
    while not one._flushing.done():
        pass
    one.wrote(3, 1)
    one.finish()
    assert found == [1, 2, 3]


def test_an_error_of_any_flush_is_told_at_the_end(monkeypatch):
    def fails_once(handle):
        if handle == 1:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(flush, "_sync", fails_once)
    one = Flush(100)
    one.wrote(1, 100)
    while not one._flushing.done():
        pass
    one.wrote(2, 100)
    with pytest.raises(OSError, match="Input/output"):
        one.finish()


def test_closing_waits_and_tells_nothing(monkeypatch):
    def fails(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(flush, "_sync", fails)
    one = Flush(1)
    one.wrote(1, 100)
    one.close()


def test_a_real_file_is_flushed(tmp_path):
    handle = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    one = Flush(1)
    os.write(handle, b"x")
    one.wrote(handle, 1)
    one.finish()
    os.close(handle)

"""A file appears whole or not at all."""

import os
import signal

import pytest

from registry.whole_file import whole_file


def test_it_takes_the_place_of_what_was_there(tmp_path):
    path = tmp_path / "file"
    for text in ("one", "two"):
        with whole_file(path) as new:
            new.write_text(text)
            assert not path.exists() or path.read_text() == "one"
        assert path.read_text() == text
    assert os.listdir(tmp_path) == ["file"]


def fail(path):
    with whole_file(path) as new:
        new.write_text("half")
        raise ZeroDivisionError


@pytest.mark.parametrize("there", [False, True])
def test_a_failure_leaves_what_was_there(there, tmp_path):
    path = tmp_path / "file"
    if there:
        path.write_text("one")
    with pytest.raises(ZeroDivisionError):
        fail(path)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["one"] * there


def test_so_does_a_kill(tmp_path):
    path = tmp_path / "file"
    path.write_text("one")
    process = os.fork()
    if not process:
        with whole_file(path) as new:
            new.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(process, 0)
    assert path.read_text() == "one"


def test_a_link_is_followed_and_stays(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with whole_file(tmp_path / "link") as new:
        new.write_text("one")
    assert (tmp_path / "file").read_text() == "one"
    assert (tmp_path / "link").is_symlink()


def test_what_is_no_file_is_written_to_as_it_is():
    with whole_file("/dev/null") as new:
        assert str(new) == "/dev/null"
    assert not os.path.isfile("/dev/null")

"""What the killed left is told from what the living work in."""

import os
import signal
from pathlib import Path

from registry.workroom import is_in_use, locked, sweep, workroom


def killed(work):
    """Let a process of its own do something and be killed."""
    process = os.fork()
    if not process:
        work()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(process, 0)


def test_a_folder_is_gone_after_its_block(tmp_path):
    with workroom(tmp_path, ".work-") as folder:
        (folder / "file").write_text("x")
        assert folder.parent == tmp_path
        assert is_in_use(folder)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_goes_and_what_a_living_one_has_stays(tmp_path):
    rooms = [workroom(tmp_path, ".work-")]
    killed(rooms[0].__enter__)
    (left,) = tmp_path.iterdir()
    assert not is_in_use(left)
    with workroom(tmp_path, ".work-") as one, workroom(tmp_path, ".work-") as two:
        assert {*tmp_path.iterdir()} == {one, two}


def test_only_folders_of_the_kind_go_and_none_that_is_to_be_kept(tmp_path):
    for name in (".work-a", ".work-b", ".other-c", "work-d"):
        (tmp_path / name).mkdir()
    (tmp_path / ".work-b" / "journal").write_text("x")
    (tmp_path / ".work-e").write_text("a file")
    (tmp_path / ".work-f").symlink_to(tmp_path / "work-d")
    sweep(tmp_path, ".work-", keep="journal")
    assert sorted(os.listdir(tmp_path)) == [".other-c", ".work-b", ".work-e", ".work-f", "work-d"]


def test_a_folder_that_takes_its_final_name_stays_and_is_in_use_until_the_end(tmp_path):
    with workroom(tmp_path, ".out.", ".partial") as folder:
        folder.rename(tmp_path / "out")
        assert is_in_use(tmp_path / "out")
    assert os.listdir(tmp_path) == ["out"]
    assert not is_in_use(tmp_path / "out")


def test_a_lock_is_had_once(tmp_path):
    handle = locked(tmp_path / "a")
    assert handle is not None
    assert locked(tmp_path / "a") is None
    os.close(handle)
    again = locked(tmp_path / "a")
    assert again is not None
    os.close(again)


def test_nobody_works_in_what_is_not_there(tmp_path):
    assert not is_in_use(tmp_path / "nowhere")
    sweep(Path(tmp_path / "nowhere"), ".work-")


def test_a_folder_that_loses_its_name_while_it_is_locked_is_made_again(tmp_path, monkeypatch):
    real = os.fstat

    def late(handle):
        monkeypatch.undo()
        (tmp_path / "a").rename(tmp_path / "b")
        return real(handle)

    monkeypatch.setattr(os, "fstat", late)
    handle = locked(tmp_path / "a")
    assert handle is not None
    assert os.path.samestat(os.fstat(handle), (tmp_path / "a").stat())

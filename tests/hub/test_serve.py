"""The hub that people start by hand."""

import re
import signal
import subprocess
import sys
from pathlib import Path

from hub import serve
from hub.server import LocalHub
from huggingface_hub import HfApi


def test_every_folder_of_every_owner_is_a_repository(tmp_path):
    for name in ("org/b", "org/a", "lab/c"):
        (tmp_path / "root" / name).mkdir(parents=True)
        (tmp_path / "root" / name / "config.json").write_text("{}")
    (tmp_path / "root" / "note.txt").write_text("")
    with LocalHub(tmp_path / "objects") as hub:
        assert serve.fill(hub, tmp_path / "root") == ["lab/c", "org/a", "org/b"]
        assert [repo.id for repo in hub.store] == ["lab/c", "org/a", "org/b"]


def test_it_says_where_it_is_and_ends_on_interrupt(hub, tmp_path):
    (tmp_path / "org" / "m").mkdir(parents=True)
    (tmp_path / "org" / "m" / "config.json").write_text("{}")
    command = [sys.executable, str(Path(serve.__file__)), str(tmp_path), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout.readline() == "1 repositories\n"
        endpoint = re.search(r"HF_ENDPOINT=(\S+)", running.stdout.readline())[1]
        assert running.stdout.readline().startswith("export HF_TOKEN=")
        assert HfApi(endpoint=endpoint, token=False).list_repo_files("org/m") == ["config.json"]
        running.send_signal(signal.SIGINT)
        assert re.fullmatch(r"1 requests, \d+ bytes sent\n", running.stdout.readline())
        assert running.wait(10) == 0

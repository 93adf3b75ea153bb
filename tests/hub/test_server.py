"""The hub as such: it starts, bears many at once, and ends without a trace."""

import http.client
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from hub.server import LocalHub
from hub.store import BEGINNING
from huggingface_hub import HfApi

FILES = {"config.json": b'{"model_type": "llama"}', "model.safetensors": bytes(20_000)}


def test_equal_histories_have_equal_shas_and_every_commit_another(tmp_path):
    with LocalHub(tmp_path / "a") as one, LocalHub(tmp_path / "b") as two:
        shas = [[h.add("org/m", FILES), h.add("org/m", FILES)] for h in (one, two)]
        assert shas[0] == shas[1]
        assert shas[0][0] != shas[0][1]
        assert one.add("org/n", FILES) != shas[0][0]
        assert one.add("org/m", {**FILES, "x": b""}) not in shas[0]


def test_a_commit_holds_exactly_what_was_added(hub):
    first = hub.add("org/m", FILES)
    hub.add("org/m", {"only.txt": b"x"})
    api = HfApi(endpoint=hub.endpoint)
    assert api.list_repo_files("org/m") == ["only.txt"]
    assert api.list_repo_files("org/m", revision=first) == sorted(FILES)


def test_a_folder_is_added_without_what_git_and_caches_keep_in_it(hub, family, tmp_path):
    folder = tmp_path / "model"
    for name in (".git/HEAD", ".cache/x", "sub/a.txt", "b.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    (folder / "config.json").symlink_to(family.base / "config.json")
    hub.add("org/m", folder)
    assert list(hub.repo("org/m").head.entries) == ["b.txt", "config.json", "sub/a.txt"]


def test_what_was_added_stays_when_the_file_changes(hub, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"before")
    hub.add("org/m", tmp_path)
    (tmp_path / "a.txt").write_bytes(b"after.")
    assert hub.repo("org/m").head.read("a.txt") == b"before"


def test_a_link_is_kept_instead_of_a_copy(hub, tmp_path):
    (tmp_path / "model.bin").write_bytes(bytes(20_000))
    hub.add("org/m", tmp_path, link=True)
    sha256 = hub.repo("org/m").head.entries["model.bin"].content.sha256
    assert os.path.samefile(tmp_path / "model.bin", hub.store.objects.path(sha256))


def test_times_are_given_or_go_on_by_minutes(hub):
    for name in ("one", "two"):
        hub.add(f"org/{name}", FILES)
    api = HfApi(endpoint=hub.endpoint)
    one, two = (api.model_info(f"org/{name}") for name in ("one", "two"))
    assert one.created_at == one.last_modified == BEGINNING
    assert (two.created_at - one.created_at).seconds == 60
    hub.add("org/old", FILES, date=BEGINNING.replace(year=2020))
    assert api.model_info("org/old").created_at.year == 2020


def test_three_hundred_repositories_share_their_files(hub):
    for i in range(300):
        hub.add(f"org/model-{i}", {**FILES, "README.md": b"---\nlicense: mit\n---\n"})
    held = [p for p in hub.store.objects.root.rglob("*") if p.is_file()]
    assert len(held) == 3
    api = HfApi(endpoint=hub.endpoint)
    with ThreadPoolExecutor(16) as pool:
        infos = list(pool.map(lambda i: api.model_info(f"org/model-{i}"), range(300)))
    assert [info.id for info in infos] == [f"org/model-{i}" for i in range(300)]
    assert len(hub.log) == 300
    assert {request.status for request in hub.log} == {200}


def test_a_connection_serves_many_requests(hub):
    hub.add("org/m", FILES)
    connection = http.client.HTTPConnection(urlsplit(hub.endpoint).netloc, timeout=10)
    connection.connect()
    first = connection.sock
    for path in ("/api/models/org/m", "/api/nothing", "/org/m/resolve/main/config.json"):
        connection.request("GET", path)
        connection.getresponse().read()
    assert connection.sock is first
    connection.close()
    assert [request.status for request in hub.log] == [200, 404, 200]


def test_an_ended_hub_leaves_no_thread_and_refuses_connections(tmp_path):
    before = threading.active_count()
    with LocalHub(tmp_path) as hub:
        hub.add("org/m", FILES)
        address = urlsplit(hub.endpoint).netloc
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request("GET", "/api/models/org/m")
        connection.getresponse().read()
    assert connection.sock.recv(1) == b""
    connection.close()
    with pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection(address, timeout=10).connect()
    assert threading.active_count() == before


def test_a_process_that_is_started_asks_this_hub(hub):
    sha = hub.add("org/m", FILES, private=True)
    code = "from huggingface_hub import HfApi; print(HfApi().model_info('org/m').sha)"
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HF_TOKEN": hub.token},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == sha
    assert hub.log[0].authorization == f"Bearer {hub.token}"


def test_the_log_finds_by_pattern_and_origin_and_forgets(hub):
    hub.add("org/m", FILES)
    HfApi(endpoint=hub.endpoint).hf_hub_download("org/m", "model.safetensors")
    assert [r.method for r in hub.log.find(r"resolve/main/model\.safetensors")] == ["HEAD"]
    assert [r.line.split("?")[0][:10] for r in hub.log.find(origin="cdn")] == ["GET /repos"]
    assert hub.log.bytes_sent == 20_000
    hub.log.clear()
    assert (len(hub.log), hub.log.bytes_sent) == (0, 0)

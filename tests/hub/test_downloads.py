"""Bytes, as the client fetches them."""

import json
import struct

import pytest
from huggingface_hub import HfApi, HfFileSystem
from huggingface_hub.errors import HfHubHTTPError, NotASafetensorsRepoError
from safetensors.torch import load_file


@pytest.fixture
def api(hub, family):
    hub.add("org/base", family.base)
    hub.add("org/sharded", family.sharded)
    hub.log.clear()
    return HfApi(endpoint=hub.endpoint, token=False)


def lines(hub):
    return [(r.origin, r.method, r.status) for r in hub.log]


def test_a_large_file_comes_from_the_cdn(hub, api, family):
    path = api.hf_hub_download("org/base", "model.safetensors")
    with open(path, "rb") as got:
        assert got.read() == (family.base / "model.safetensors").read_bytes()
    assert lines(hub) == [("api", "HEAD", 302), ("cdn", "GET", 200)]
    assert hub.log.bytes_sent == (family.base / "model.safetensors").stat().st_size
    assert hub.endpoint.rpartition(":")[2] != hub.cdn.rpartition(":")[2]


def test_a_small_file_comes_from_the_hub(hub, api, family):
    path = api.hf_hub_download("org/base", "config.json")
    with open(path, "rb") as got:
        assert got.read() == (family.base / "config.json").read_bytes()
    assert lines(hub) == [("api", "HEAD", 200), ("api", "GET", 200)]


def test_a_cached_file_costs_one_question_and_a_pinned_one_none(hub, api):
    path = api.hf_hub_download("org/base", "model.safetensors")
    hub.log.clear()
    assert api.hf_hub_download("org/base", "model.safetensors") == path
    assert lines(hub) == [("api", "HEAD", 302)]
    hub.log.clear()
    sha = hub.repo("org/base").head.sha
    assert api.hf_hub_download("org/base", "model.safetensors", revision=sha) == path
    assert lines(hub) == []


def test_a_second_snapshot_costs_one_question(hub, api, family):
    first = api.snapshot_download("org/sharded")
    hub.log.clear()
    assert api.snapshot_download("org/sharded") == first
    assert lines(hub) == [("api", "GET", 200)]
    name = "model-00002-of-00003.safetensors"
    assert load_file(f"{first}/{name}").keys() == load_file(family.sharded / name).keys()


def test_a_new_commit_fetches_only_what_changed(hub, api, family):
    api.snapshot_download("org/base")
    names = [file.name for file in family.base.iterdir()]
    hub.add("org/base", {**{n: family.base / n for n in names}, "config.json": b"{}"})
    hub.log.clear()
    again = api.snapshot_download("org/base")
    with open(f"{again}/config.json", "rb") as got:
        assert got.read() == b"{}"
    assert hub.log.find(origin="cdn") == []
    assert [r.path for r in hub.log.find("^GET .*resolve")] == [
        f"/org/base/resolve/{hub.repo('org/base').head.sha}/config.json"
    ]


def test_headers_are_read_without_weights(hub, api, family):
    told = api.get_safetensors_metadata("org/base")
    assert set(told.files_metadata["model.safetensors"].tensors) == set(family.weights["base"])
    sharded = api.get_safetensors_metadata("org/sharded")
    assert set(sharded.weight_map) == set(family.weights["base"])
    assert {r.range for r in hub.log.find(origin="cdn")} == {"bytes=0-100000"}
    hub.add("org/none", {"a.txt": b""})
    with pytest.raises(NotASafetensorsRepoError):
        api.get_safetensors_metadata("org/none")


def test_a_long_header_takes_a_second_range(hub, api):
    tensor = {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}
    header = json.dumps({"__metadata__": {"long": "x" * 150_000}, "a": tensor}).encode()
    hub.add("org/m", {"model.safetensors": struct.pack("<Q", len(header)) + header + b"\0"})
    told = api.parse_safetensors_file_metadata("org/m", "model.safetensors")
    assert list(told.tensors) == ["a"]
    ranges = [request.range for request in hub.log.find(origin="cdn")]
    assert ranges == ["bytes=0-100000", f"bytes=8-{len(header) + 7}"]
    assert hub.log.bytes_sent == 100_001 + len(header)


def test_a_file_system_reads_some_bytes(hub, api, family):
    files = HfFileSystem(endpoint=hub.endpoint, token=False, skip_instance_cache=True)
    data = (family.base / "model.safetensors").read_bytes()
    assert sorted(files.ls("org/base", detail=False)) == sorted(
        f"org/base/{file.name}" for file in family.base.iterdir()
    )
    hub.log.clear()
    with files.open("org/base/model.safetensors", "rb", cache_type="none") as file:
        file.seek(1000)
        assert file.read(500) == data[1000:1500]
    assert [r.range for r in hub.log.find(origin="cdn")] == ["bytes=1000-1499"]
    assert hub.log.find(origin="cdn")[0].bytes_sent == 500


def test_addresses_of_the_cdn_expire(hub, api, family):
    url = f"{hub.endpoint}/org/base/resolve/main/model.safetensors"
    address = api.get_hf_file_metadata(url=url).location
    size = (family.base / "model.safetensors").stat().st_size
    assert api.get_hf_file_metadata(url=address).size == size
    hub.expire_urls()
    with pytest.raises(HfHubHTTPError, match="403"):
        api.get_hf_file_metadata(url=address)
    api.hf_hub_download("org/base", "model.safetensors")


def test_checksums_of_a_snapshot_hold(hub, api):
    folder = api.snapshot_download("org/base")
    told = api.verify_repo_checksums("org/base")
    assert (told.checked_count, told.mismatches, told.missing_paths) == (4, [], [])
    assert folder.endswith(hub.repo("org/base").head.sha)

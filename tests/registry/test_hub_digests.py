"""Digests of models of the Hub: those of the files, and no byte is kept."""

import tempfile
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import remote
from registry.errors import Offline, RequestsSpent, TruncatedFile
from registry.fingerprint import digest_stream, digest_tensors
from registry.header import TensorRef
from registry.hub_digests import digest_remote
from registry.scan import ensure, scan


def models(catalog):
    return [r["id"] for r in catalog.rows("select id from store.model where status <> 'latent' order by id")]  # fmt: skip


@given(
    sizes=st.lists(st.integers(0, 50), min_size=1, max_size=6),
    cuts=st.lists(st.integers(0, 400), max_size=8),
    data=st.randoms(use_true_random=False),
)
def test_wherever_bytes_are_cut_the_digests_are_those_of_the_file(sizes, cuts, data):
    raw = data.randbytes(16 + sum(sizes))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "f"
        file.write_bytes(raw)
        at, refs = 16, []
        for i, size in enumerate(sizes):
            refs.append(TensorRef(f"t{i}", "U8", (size,), file, at, size))
            at += size
        ends = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
        blocks = [raw[a:b] for a, b in pairwise(ends)]
        assert digest_stream(refs, blocks) == digest_tensors(refs)
        if sizes[-1]:
            with pytest.raises(TruncatedFile, match="ends at byte"):
                digest_stream(refs, [raw[:-1]])


@pytest.mark.parametrize("block", [8 << 20, 999])
def test_a_model_that_was_digested_there_is_the_one_that_it_is_here(
    hub, family, catalog, monkeypatch, block
):
    monkeypatch.setattr(remote, "BLOCK_BYTES", block)
    hub.add("org/sharded", family.sharded)
    scan(catalog, ["hf://org/sharded"])
    (before,) = models(catalog)
    done = digest_remote(catalog, [before])
    assert done.problems == {}
    assert list(done.models) == [before]
    (after,) = models(catalog)
    assert done.models[before] == after
    scan(catalog, [str(family.base)])
    assert models(catalog) == [after]
    rows = catalog.rows("select status, digest_name from store.model where id = ?", [after])
    assert rows[0]["status"] == "full"
    digests = catalog.rows("select count(digest) as n, count(*) as m from store.tensor")
    assert digests[0]["n"] == digests[0]["m"] == 19
    hub.log.clear()
    assert digest_remote(catalog, models(catalog)).n_requests == 0
    assert len(hub.log) == 0
    assert ensure(catalog, "hf://org/sharded") == after


def test_other_bytes_of_the_right_length_are_refused(hub, family, catalog):
    hub.add("org/chat", family.chat)
    hub.add("org/math", family.math)
    scan(catalog, ["hf://org/*"])
    hub.fault("^GET /repos/", origin="cdn", corrupt=True, after=1)
    done = digest_remote(catalog, models(catalog))
    (why,) = done.problems.values()
    assert "it is listed with" in why
    assert len(done.models) == 1
    status = catalog.rows("select status from store.model where status <> 'latent' order by status")
    assert [row["status"] for row in status] == ["full", "header"]
    assert digest_remote(catalog, models(catalog)).problems == {}


def test_it_stops_where_it_must(hub, family, catalog, monkeypatch):
    hub.add("org/chat", family.chat)
    scan(catalog, ["hf://org/*"])
    with pytest.raises(RequestsSpent):
        digest_remote(catalog, models(catalog), most_requests=2)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(Offline):
        digest_remote(catalog, models(catalog))


def test_who_stops_it_does_not_wait_for_the_hub(hub, family, catalog, monkeypatch):
    hub.add("org/chat", family.chat)
    scan(catalog, ["hf://org/*"])

    def stopped(remote, pool, _):
        pool.submit(remote.hub.requests._pause, 60)
        raise KeyboardInterrupt

    monkeypatch.setattr("registry.hub_digests.digests_of", stopped)
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        digest_remote(catalog, models(catalog))
    assert time.monotonic() - begun < 30

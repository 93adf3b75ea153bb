"""GGUF on the Hub: listed for nothing, read by ranges where that is asked for, and recognised when it is here."""

from itertools import pairwise

import pytest
from gguf import GGMLQuantizationType as Type
from ggufs import save_gguf, save_split
from huggingface_hub import snapshot_download
from scanned import orphans, statuses

from registry.scan import scan
from registry.verdict import mergeable as verdict

CARD = b"---\nbase_model: org/base\nlicense: mit\n---\n"


@pytest.fixture
def quants(tmp_path):
    """A folder of two quantisations with long vocabularies."""
    folder = tmp_path / "quants"
    for seed, dtype in enumerate((Type.Q4_0, Type.Q8_0)):
        save_gguf(folder / f"m-{dtype.name}.gguf", dtype, seed=seed, n_tokens=30_000)
    (folder / "README.md").write_bytes(CARD)
    (folder / "tokenizer.json").write_bytes(b"{}" + b" " * 100_000)
    return folder


@pytest.fixture
def org(hub, family, quants):
    """A model and its quantisations on the Hub."""
    hub.add("org/base", family.base)
    hub.add("org/base-GGUF", quants)
    hub.log.clear()
    return hub


def models(catalog):
    rows = catalog.rows(
        "select name, dtype, n_params, base, relation, license from models where name like '%gguf' order by 1"
    )
    return [tuple(r.values()) for r in rows]


def test_without_being_asked_no_byte_of_it_is_fetched(org, catalog):
    report = scan(catalog, ["hf://org/*"])
    assert not report.problems
    assert not org.log.find(r"\.gguf")
    assert org.log.bytes_sent < 60_000
    assert models(catalog) == [
        ("org/base-GGUF/m-Q4_0.gguf", None, None, "org/base", "quantized", "mit"),
        ("org/base-GGUF/m-Q8_0.gguf", None, None, "org/base", "quantized", "mit"),
    ]
    files = catalog.rows("select size_bytes from files where format = 'gguf' order by 1")
    assert all(r["size_bytes"] > 500_000 for r in files)
    org.log.clear()
    assert scan(catalog, ["hf://org/*"]).unchanged == 3
    assert len(org.log.find()) == 1


def test_a_verdict_on_what_was_not_read_says_so(org, catalog, quants, family):
    scan(catalog, ["hf://org/base-GGUF", str(family.base)])
    ids = [catalog.find(f"org/base-GGUF/m-{name}.gguf") for name in ("Q4_0", "Q8_0")]
    for models_ in (ids, [ids[0], catalog.find(str(family.base))]):
        found = verdict(catalog, models_)
        assert not found.ok
        assert "scan the files first" in found.reasons[0].detail


def test_when_asked_the_headers_are_read_by_ranges(org, catalog, quants):
    scan(catalog, ["hf://org/*"])
    org.log.clear()
    report = scan(catalog, ["hf://org/*"], with_gguf=True)
    assert (report.updated, report.unchanged) == (2, 1)
    assert [m[:3] for m in models(catalog)] == [
        ("org/base-GGUF/m-Q4_0.gguf", "Q4_0", 4352),
        ("org/base-GGUF/m-Q8_0.gguf", "Q8_0", 4352),
    ]
    for path in quants.glob("*.gguf"):
        ranges = [r.range for r in org.log.find(path.stem) if r.origin == "cdn"]
        spans = [tuple(map(int, r.removeprefix("bytes=").split("-"))) for r in ranges]
        assert spans[0] == (0, 65535)
        assert all(b[0] == a[1] + 1 for a, b in pairwise(spans))
        assert spans[-1][1] < path.stat().st_size
    org.log.clear()
    assert scan(catalog, ["hf://org/*"], with_gguf=True).unchanged == 3
    assert not org.log.find("resolve")
    assert not orphans(catalog)


def test_what_it_says_is_what_a_copy_says(org, catalog, quants):
    scan(catalog, ["hf://org/base-GGUF"], with_gguf=True)
    scan(catalog, [str(quants)], headers_only=True)
    rows = catalog.rows(
        "select signature, dtype, n_bytes, family, license from models where name like '%m-Q%' order by dtype"
    )
    assert len(rows) == 4
    assert rows[0] == rows[1]
    assert rows[2] == rows[3]


def test_one_that_is_damaged_is_a_problem_beside_the_others(hub, catalog, quants):
    good, bad = (quants / f"m-{name}.gguf" for name in ("Q4_0", "Q8_0"))
    bad.write_bytes(b"GGUX" + bad.read_bytes()[4:])
    hub.add("org/q", quants)
    report = scan(catalog, ["hf://org/q"], with_gguf=True)
    assert [m.name for m in report.models] == [f"org/q/{good.name}"]
    (problem,) = report.problems
    assert problem.error == "BadHeader"
    assert problem.detail.startswith("hf://org/q@")


def test_parts_on_the_hub_are_one_model(hub, catalog, tmp_path):
    save_split(tmp_path / "s" / "Q8", "big")
    hub.add("org/split", tmp_path / "s")
    (model,) = scan(catalog, ["hf://org/split"], with_gguf=True).models
    assert model.name == "org/split/Q8/big-00001-of-00003.gguf"
    (row,) = catalog.rows("select n_tensors from models")
    assert row["n_tensors"] == 3
    assert catalog.rows("select count(*) as n from files where format = 'gguf'") == [{"n": 3}]


@pytest.mark.parametrize("here_first", [True, False])
@pytest.mark.parametrize("with_gguf", [True, False])
def test_a_copy_here_tells_who_it_is(org, catalog, quants, here_first, with_gguf):
    (quants / "m-Q8_0.gguf").unlink()
    for each in ([str(quants)], ["hf://org/base-GGUF"])[:: 1 if here_first else -1]:
        scan(catalog, each, with_gguf=with_gguf)
    assert catalog.find("org/base-GGUF/m-Q4_0.gguf") == catalog.find(str(quants / "m-Q4_0.gguf"))
    assert sorted(s for s in statuses(catalog).values() if s != "latent") == ["full", "header"]
    assert not orphans(catalog)


def test_what_the_cache_holds_is_known_by_its_blobs(org, catalog):
    snapshot_download("org/base-GGUF", endpoint=org.endpoint)
    report = scan(catalog, ["hf-cache:"])
    assert [m.name for m in report.models] == [
        "org/base-GGUF/m-Q4_0.gguf", "org/base-GGUF/m-Q8_0.gguf",
    ]  # fmt: skip
    scan(catalog, ["hf://org/base-GGUF"])
    assert set(statuses(catalog).values()) == {"full", "latent"}
    assert scan(catalog, ["hf-cache:"]).unchanged == 2

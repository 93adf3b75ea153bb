"""`reg doctor`, `reg export`, `reg import DIR`, `reg rm`, `reg gc` at the command line."""

import subprocess
import sys

import duckdb


def test_a_damaged_catalog_is_a_no_until_it_is_repaired(place):
    place.run("scan", "models")
    assert "the catalog is whole" in place.run("doctor").stdout
    assert place.json("doctor") == {
        "ok": True, "catalog": str(place.folder / ".reg" / "catalog.duckdb"), "version": place.json("doctor")["version"],
        "findings": [], "kept": None,
    }  # fmt: skip
    with duckdb.connect(str(place.folder / ".reg" / "catalog.duckdb")) as connection:
        connection.execute("delete from store.address where name = 'chat'")
    (place.folder / "models" / "math" / "model.safetensors").unlink()
    said = place.run("doctor", code=3)
    assert "reg doctor --repair" in said.stderr
    found = place.json("doctor", "--repair", code=3)
    by_kind = {(f["kind"], f["where"]): f for f in found["findings"]}
    assert by_kind["orphans", "file.uri"]["repaired"]
    assert not by_kind["changed", "file"]["repaired"]
    assert f"reg scan {place.folder / 'models' / 'math'}" in by_kind["changed", "file"]["repair"]
    assert found["kept"]
    assert place.run("doctor", "-q", code=3).stdout == "changed\n"
    place.run("scan", "models")
    place.run("doctor")


def test_without_torch(known):
    program = "import sys; from cli.main import run; assert run(['doctor']) == 0; assert 'torch' not in sys.modules"
    subprocess.run(
        [sys.executable, "-c", program], cwd=known.folder, check=True, capture_output=True
    )


def test_out_and_in_again(known, tmp_path):
    made = known.json("export", str(tmp_path / "backup"))
    assert made["version"] == known.json("doctor")["version"]
    assert known.run("export", str(tmp_path / "backup"), code=1).stderr.startswith("error:")
    new = ("--catalog", str(tmp_path / "new.duckdb"))
    assert "rows of" in known.run(*new, "import", str(tmp_path / "backup")).stdout
    assert known.json(*new, "ls") == known.json("ls")
    assert known.json(*new, "lineage") == known.json("lineage")
    known.run(*new, "import", str(tmp_path / "backup"), code=1)
    known.run(*new, "import", str(tmp_path / "backup"), str(tmp_path / "backup"), code=2)
    known.run(*new, "import", str(tmp_path / "backup"), "--format", "csv", code=2)


def test_parents_are_refused_and_others_go(known, copy_of):
    place = copy_of(known)
    refused = place.run("rm", "chat", code=1).stderr
    assert "chat is a parent of merged" in refused
    assert "--force" in refused
    assert place.json("rm", "merged", "--dry-run")["models"]
    place.run("show", "merged")
    place.run("rm", "merged")
    assert "no model" in place.run("show", "merged", code=1).stderr
    assert len(place.json("gc")["recipes"]) == 1
    assert place.json("gc") == {"models": [], "recipes": [], "dry_run": False}
    place.run("doctor")

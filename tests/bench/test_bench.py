"""The bench runs from end to end on next to nothing, goes on where it stopped, and writes its table."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CASES = "linear-3,memory-slerp"


def bench(folder: Path, *options: str) -> str:
    """What the bench prints for the tiny family."""
    command = [
        sys.executable,
        Path(__file__).with_name("run.py"),
        "--sizes",
        "tiny",
        "--rounds",
        "1",
    ]
    answer = subprocess.run(
        [*command, "--folder", folder, *options], check=True, capture_output=True, text=True
    )
    return answer.stdout


def test_it_measures_in_rounds_goes_on_where_it_stopped_and_writes_the_table(
    tmp_path: Path,
) -> None:
    shown = bench(tmp_path, "--only", CASES)
    for name in ("linear-3", "slerp"):
        assert f"  {name} " in shown
    results = tmp_path / "bench" / "results.jsonl"
    before = results.read_bytes()
    check_raw(tmp_path, [json.loads(line) for line in before.splitlines()])

    bench(tmp_path, "--only", CASES, "--write", str(tmp_path / "bench.md"))
    assert results.read_bytes() == before
    text = (tmp_path / "bench.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| tiny")]
    assert [row[1] for row in rows] == ["linear-3", "slerp"]
    assert str(tmp_path) not in text


def check_raw(folder: Path, found: list[dict[str, Any]]) -> None:
    """Plain and ours lie side by side, and their bytes are those of the family."""
    assert [(r["case"], r["tool"]) for r in found] == [
        ("start-merge", "reg"), ("linear-3", "plain"), ("linear-3", "reg"),
        ("linear-3", "inside plain"), ("linear-3", "inside"), ("memory-slerp", "reg"),
    ]  # fmt: skip
    shards = (folder / "tiny" / "base").glob("*.safetensors")
    n_bytes = sum(file.stat().st_size for file in shards)
    merge = {r["tool"]: r["run"] for r in found if r["case"] == "linear-3"}
    assert merge["plain"]["read"] == 3 * n_bytes
    assert merge["plain"]["written"] == n_bytes
    assert merge["reg"]["read"] > 3 * n_bytes
    assert merge["reg"]["written"] > n_bytes
    assert merge["reg"]["anonymous"] > 1 << 20


def test_the_family_follows_from_its_names_alone(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, family\n"
        "for folder in sys.argv[1:]: family.members(pathlib.Path(folder), 'tiny', 2)"
    )
    one, two = tmp_path / "one", tmp_path / "two"
    command = [sys.executable, "-c", program, one, two]
    subprocess.run(command, cwd=Path(__file__).parent, check=True)
    for member in ("base", "ft-a", "ft-b"):
        made = {f.name: f.read_bytes() for f in (one / "tiny" / member).iterdir()}
        assert {f.name: f.read_bytes() for f in (two / "tiny" / member).iterdir()} == made

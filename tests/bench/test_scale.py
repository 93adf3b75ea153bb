"""The measure of a large catalog runs from end to end on a small one, and writes its table."""

import subprocess
import sys
from pathlib import Path


def test_it_measures_and_writes_the_table(tmp_path: Path) -> None:
    script, page = Path(__file__).with_name("scale.py"), tmp_path / "scale.md"
    command = [sys.executable, script, "--folder", tmp_path, "--models", "2000", "--write", page]
    subprocess.run(command, check=True, capture_output=True, text=True)
    lines = page.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    for what in ("import", "ancestors", "common base of two", "`candidates` of one"):
        assert any(line.startswith(f"| {what} |") and " s" in line for line in lines)

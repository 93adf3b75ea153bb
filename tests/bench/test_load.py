"""The measure of very many checkpoints runs from end to end on a few, and writes its table."""

import subprocess
import sys
from pathlib import Path


def test_it_measures_and_writes_the_table(tmp_path: Path) -> None:
    script, page = Path(__file__).with_name("load.py"), tmp_path / "load.md"
    counts = ["--models", "1000", "--tensors", "12"]
    command = [sys.executable, script, "--folder", tmp_path, *counts, "--write", page]
    subprocess.run(command, check=True, capture_output=True, text=True)
    lines = page.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert "12,000 rows of tensors" in "\n".join(lines)
    for what in ("first scan", "second scan", "`reg ls`"):
        assert any(line.startswith(f"| {what} |") and " s (" in line for line in lines)

"""Many checkpoints, and many scans at once."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scanned import content, orphans, tiny, with_card

from registry.catalog import Catalog
from registry.scan import scan

ROOT = Path(__file__).parents[2]


def test_a_catalog_that_was_lost_is_made_again_by_scanning(family, tmp_path):
    catalogs = [Catalog(tmp_path / f"{i}.duckdb") for i in range(2)]
    scan(catalogs[0], [str(family.root)])
    folders = [str(folder) for folder in sorted(family.root.iterdir(), reverse=True)]
    for some in (folders[:3], folders[3:]):
        scan(catalogs[1], some)
    assert content(catalogs[0]) == content(catalogs[1])


SCANNER = """
import sys
from pathlib import Path
from registry.catalog import Catalog
from registry.scan import scan
print("ready", flush=True)
sys.stdin.readline()
catalog = Catalog(Path(sys.argv[1]))
for tree in sys.argv[2:]:
    scan(catalog, [tree], jobs=1)
"""


def test_scans_at_once_lose_nothing_and_agree_with_one(tmp_path):
    trees = [tmp_path / "tree" / name for name in ("a", "b")]
    for i, tree in enumerate(trees):
        for k in range(5):
            with_card(tiny(tree / f"m{k}", float(10 * i + k)), f"base_model: m{(k + 1) % 5}")
    alone, together = Catalog(tmp_path / "one.duckdb"), Catalog(tmp_path / "many.duckdb")
    for tree in trees:
        scan(alone, [str(tree)])
    scanners = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                SCANNER,
                str(together.path),
                *map(str, trees[:: 1 - i % 2 * 2]),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for i in range(3)
    ]
    for scanner in scanners:
        assert scanner.stdout.readline() == "ready\n"
    for scanner in scanners:
        scanner.stdin.write("go\n")
        scanner.stdin.flush()
    for scanner in scanners:
        scanner.communicate(timeout=100)
        assert scanner.returncode == 0
    assert content(together) == content(alone)
    assert orphans(together) == []


@pytest.mark.slow
def test_ten_thousand_checkpoints(tmp_path, catalog):
    for i in range(10_000):
        folder = tmp_path / f"{i // 100}" / f"m{i}"
        folder.mkdir(parents=True)
        header = b'{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}       '
        weights = np.full(4, i, np.float32).tobytes()
        content_ = len(header).to_bytes(8, "little") + header + weights
        (folder / "model.safetensors").write_bytes(content_)
        (folder / "config.json").write_text('{"_name_or_path": "org/base"}')
    first = scan(catalog, [str(tmp_path)])
    assert (first.new, first.problems) == (10_000, ())
    before = catalog.path.stat().st_mtime_ns
    second = scan(catalog, [str(tmp_path)])
    assert second.unchanged == 10_000
    assert catalog.path.stat().st_mtime_ns == before

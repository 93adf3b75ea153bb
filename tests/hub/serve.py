"""A hub of the folders below a root, for playing with by hand.

    python tests/hub/serve.py ROOT [PORT]

Every folder ROOT/OWNER/NAME is a repository. Nothing is written below ROOT; what is uploaded is gone afterwards.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hub.server import LocalHub


def fill(hub: LocalHub, root: Path) -> list[str]:
    """Add every folder two levels below ``root``, sorted; returns the names of the repositories."""
    folders = sorted(folder for folder in root.glob("*/*") if folder.is_dir())
    names = [f"{folder.parent.name}/{folder.name}" for folder in folders]
    for name, folder in zip(names, folders, strict=True):
        hub.add(name, folder, link=True)
    return names


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A small Hub of the folders ROOT/OWNER/NAME.")
    parser.add_argument("root", type=Path)
    parser.add_argument("port", type=int, nargs="?", default=8800)
    asked = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory() as kept,
        LocalHub(Path(kept) / "objects", port=asked.port) as hub,
    ):
        names = fill(hub, asked.root)
        print(f"{len(names)} repositories\nexport HF_ENDPOINT={hub.endpoint} HF_HUB_DISABLE_XET=1")
        print(f"export HF_TOKEN={hub.token}", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            print(f"{len(hub.log)} requests, {hub.log.bytes_sent} bytes sent")


if __name__ == "__main__":
    main()

"""Index files, their shards, and what lies in their places."""

import json
import os
from pathlib import Path

from torture.chance import Chance
from torture.court import Court
from torture.ground import Ground
from torture.neighbourhood import damaged_few

from registry.checkpoint import read_checkpoint

WHAT = "indexes and shards"

_WORDS = ("weight_map", "metadata", "total_size", "model-00001-of-00003.safetensors", "../base/model.safetensors", "config.json", "pytorch_model.bin", "x.gguf")  # fmt: skip


def attempt(chance: Chance, court: Court, ground: Ground) -> None:
    """Read one folder; now and then scan a few."""
    ground.clear()
    if chance.now_and_then(0.05):
        damaged_few(court, ground, chance, "sharded", _damage)
        return
    folder = ground.copy("sharded", "m")
    for _ in range(4):
        _damage(chance, folder)
        court.reads("read_checkpoint", lambda: read_checkpoint(folder))


def _damage(chance: Chance, folder: Path) -> None:
    """Change the index, or what lies beside it."""
    index = folder / "model.safetensors.index.json"
    if chance.now_and_then(0.7):
        if index.is_symlink() or not index.is_file():  # a link may lead to a file of the system
            return
        try:
            found = json.loads(index.read_bytes())
        except (ValueError, RecursionError):
            found = {"weight_map": {"w": "model-00001-of-00003.safetensors"}}
        index.write_bytes(chance.json(chance.damaged(found, vocabulary=_WORDS)))
        return
    victim = folder / chance.one(sorted(os.listdir(folder)))
    other = os.fsencode(folder) + b"/" + chance.text().replace("\0", "").replace("/", "_").encode(errors="replace")[:250]  # fmt: skip
    if other.endswith((b"/", b"/.", b"/..")) or os.path.lexists(other) or not os.path.lexists(victim):  # fmt: skip
        return
    match chance.randrange(6):
        case 0:
            os.rename(victim, other)
        case 1:
            os.symlink(os.fsencode(victim.name), other)
        case 2 if victim.is_file() and not victim.is_symlink():
            victim.write_bytes(chance.spoilt(victim.read_bytes()[:4096]))
        case 3:
            os.rename(victim, other)
            os.mkfifo(victim)
        case 4:
            os.rename(victim, other)
            os.symlink(chance.one(("/etc/hostname", "..", ".", victim.name, "/dev/zero", "/proc/self/mem")), victim)  # fmt: skip
        case _:
            os.rename(victim, other)
            os.mkdir(victim)

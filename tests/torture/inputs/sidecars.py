"""What stands beside a merge and in its shards: homolog.json and `__metadata__`."""

import json
from pathlib import Path

from torture.chance import Chance
from torture.court import Court
from torture.ground import Ground
from torture.neighbourhood import damaged_few

from registry.checkpoint import read_checkpoint
from registry.claims import read_claims

WHAT = "sidecars and metadata"

_WORDS = ("format", "recipe", "parents", "digest", "homolog", "role", "coefficient", "tensors", "method", "base", "models", "homolog-sidecar-1", "homolog-recipe-1", "0" * 64)  # fmt: skip


def attempt(chance: Chance, court: Court, ground: Ground) -> None:
    """Read what a merge says of itself; verify, reproduce or scan it."""
    ground.clear()
    if chance.now_and_then(0.1):
        damaged_few(court, ground, chance, "merged", _damage)
        return
    folder = ground.copy("merged", "mine")
    for _ in range(4):
        _damage(chance, folder)
        checkpoint = court.reads("read_checkpoint", lambda: read_checkpoint(folder))
        if checkpoint is not None:
            court.reads("read_claims", lambda found=checkpoint: read_claims(found))
    if chance.now_and_then(0.5):
        return
    ground.catalog(known=chance.now_and_then(0.6))
    words = chance.one((
        ("verify", "./mine"), ("verify", "./mine", "--json"), ("reproduce", "./mine", "-o", "again"), ("show", "./mine"), ("scan", "mine"),
        ("reproduce", "./mine", "-o", "again", "--json"), ("push", "./mine", "org/mine", "--dry-run"), ("lineage", "./mine"),
    ))  # fmt: skip
    ended = court.types(*words)
    if ended.code not in (0, 3) and Path("again").exists():
        court.half_models.append(f"{' '.join(words)} left {sorted(Path('again').rglob('*'))}")


def _damage(chance: Chance, folder: Path) -> None:
    """Change the sidecar, the metadata or both."""
    if chance.now_and_then(0.6):
        file = folder / "homolog.json"
        try:
            found = json.loads(file.read_bytes())
        except (ValueError, RecursionError):
            found = {"format": "homolog-sidecar-1"}
        changed = chance.damaged(found, vocabulary=_WORDS)
        file.write_bytes(chance.json(changed) if chance.now_and_then(0.3) else json.dumps(changed).encode())  # fmt: skip
        return
    file = folder / "model.safetensors"
    raw = file.read_bytes()
    n_bytes = int.from_bytes(raw[:8], "little")
    try:
        header = json.loads(raw[8 : 8 + n_bytes])
        metadata = header["__metadata__"]
        for key in list(metadata):
            inner = json.loads(metadata[key]) if metadata[key].startswith(("{", "[")) else metadata[key]  # fmt: skip
            changed = chance.damaged(inner, vocabulary=_WORDS)
            metadata[key] = changed if isinstance(changed, str) else json.dumps(changed)
        if chance.now_and_then(0.1):
            header["__metadata__"] = chance.damaged(metadata, vocabulary=_WORDS)
    except (ValueError, KeyError, AttributeError, TypeError):  # of an earlier damage
        return
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + n_bytes :])

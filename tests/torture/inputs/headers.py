"""Headers of safetensors files."""

import json
import math
from typing import Any

from safetensors import safe_open
from torture.chance import Chance
from torture.court import Court
from torture.ground import Ground
from torture.neighbourhood import scanned

from registry.dtypes import DTYPES
from registry.header import read_header

WHAT = "safetensors headers"

_WORDS = ("dtype", "shape", "data_offsets", "__metadata__", "format", "pt", "F32", "BF16", "F8_E4M3", "F4", "C64", "w0", "w1", "x")  # fmt: skip


def attempt(chance: Chance, court: Court, ground: Ground) -> None:
    """Read one header, and as often as the reference reader would; now and then scan a few."""
    folder = ground.clear()
    if chance.now_and_then(0.02):
        for i in range(chance.randrange(1, 6)):
            place = folder / "tree" / f"m{i}"
            place.mkdir(parents=True)
            (place / "model.safetensors").write_bytes(made(chance))
            if chance.now_and_then(0.5):
                (place / "config.json").write_text('{"model_type": "llama"}')
        scanned(court, ground, chance, n_questions=2)
        return
    file = folder / "x.safetensors"
    for _ in range(10):
        file.write_bytes(made(chance))
        header = court.reads("read_header", lambda: read_header(file))
        if header is None:
            continue
        try:
            with safe_open(file, "np") as opened:
                names = sorted(opened.keys())
        except Exception as error:  # noqa: BLE001 - whatever the reference says
            court.finds("the reference refuses it", f"{error!r}: {file.read_bytes()[:2000]!r}")
        else:
            if names != sorted(t.name for t in header.tensors):
                court.finds("the reference reads other tensors", f"{file.read_bytes()[:2000]!r}")


def made(chance: Chance) -> bytes:
    """A file, most often with damage."""
    header, n_bytes = _valid(chance)
    if chance.now_and_then(0.75):
        header = chance.damaged(header, vocabulary=_WORDS)
    raw = chance.json(header) if chance.now_and_then(0.3) else json.dumps(header).encode()
    if chance.now_and_then(0.05) and raw.startswith(b"{"):
        raw = raw[:-1] + b"," + raw[1:]
    raw += b" " * chance.one((0, 0, -len(raw) % 8, 1, 100))
    length = len(raw)
    if chance.now_and_then(0.1):
        length = chance.one((0, 1, length - 1, length + 1, length + n_bytes, 2**31, 2**32, 2**63, 2**64 - 1))  # fmt: skip
    data = bytes(chance.randrange(256) for _ in range(min(n_bytes, 64))).ljust(n_bytes, b"\x3c")
    data = data[: n_bytes + chance.one((0, 0, 0, 0, 0, 0, -1, -n_bytes))]
    found = max(0, length).to_bytes(8, chance.one(("little",) * 20 + ("big",))) + raw + data
    return chance.spoilt(found) if chance.now_and_then(0.1) else found


def _valid(chance: Chance) -> tuple[dict[str, Any], int]:
    """A header without fault and the bytes of its tensors."""
    header: dict[str, Any] = {}
    if chance.now_and_then(0.5):
        header["__metadata__"] = {"format": "pt", chance.text(): chance.text()}
    place = 0
    for i in range(chance.one((0, 1, 2, 3, 5, 20))):
        dtype = chance.one(list(DTYPES))
        shape = [chance.one((0, 1, 2, 3, 4, 8)) for _ in range(chance.one((0, 1, 1, 2, 2, 3, 5)))]
        n_bits = math.prod(shape) * DTYPES[dtype].bits
        if n_bits % 8:
            shape = [*shape, 8]
            n_bits *= 8
        name = chance.text() if chance.now_and_then(0.1) else f"model.layers.{i}.w{i}"
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [place, place + n_bits // 8]}  # fmt: skip
        place += n_bits // 8
    return header, place

"""Headers of GGUF."""

import struct

from torture.chance import Chance
from torture.court import Court
from torture.ground import Ground
from torture.neighbourhood import scanned

from registry.gguf import read_gguf

WHAT = "GGUF headers"

_KEYS = ("general.architecture", "general.alignment", "general.name", "general.type", "general.license", "general.file_type", "split.no",
    "split.count", "split.tensors.count", "general.base_model.count", "general.base_model.0.repo_url", "general.tags", "llama.block_count",
    "llama.context_length", "tokenizer.ggml.tokens", "general.finetune", "adapter.lora.alpha", "general.quantized_by")  # fmt: skip
_CODES = "BbHhIif?sAQqd"


def attempt(chance: Chance, court: Court, ground: Ground) -> None:
    """Read one header; now and then scan a few."""
    folder = ground.clear()
    if chance.now_and_then(0.02):
        tree = folder / "tree"
        tree.mkdir()
        for name in ("a.gguf", "b-00001-of-00002.gguf", "b-00002-of-00002.gguf", "m.gguf"):
            (tree / name).write_bytes(_made(chance, ground))
        scanned(court, ground, chance, n_questions=2)
        return
    file = folder / "x.gguf"
    for _ in range(5):
        file.write_bytes(_made(chance, ground))
        court.reads("read_gguf", lambda: read_gguf(file))


def _made(chance: Chance, ground: Ground) -> bytes:
    """A file, most often with damage."""
    if chance.now_and_then(0.3):
        return chance.spoilt((ground.models / "quantised.gguf").read_bytes())
    order = chance.one("<<<>")
    tensors = [f"blk.{i}.w" if chance.now_and_then(0.9) else chance.text() for i in range(chance.randrange(4))]  # fmt: skip
    keys = [chance.one(_KEYS) for _ in range(chance.randrange(6))]
    most = chance.one((0, 0, 0, 0, 1, -1, 2**20, 2**32, 2**63))
    found = b"GGUF" + struct.pack(order + "I", chance.one((3, 3, 3, 3, 2, 1, 4, 2**32 - 1)))
    found += struct.pack(order + "QQ", max(0, len(tensors) + most), len(keys))
    for key in keys:
        found += _text(order, key) + _value(chance, order)
    place = 0
    for name in tensors:
        shape = [chance.one((32, 64, 256, 1, 0, 2**31, 2**62)) if chance.now_and_then(0.1) else 32 for _ in range(chance.randrange(4))]  # fmt: skip
        dtype = chance.randrange(45) if chance.now_and_then(0.3) else 0
        found += _text(order, name) + struct.pack(f"{order}I{len(shape)}QIQ", len(shape), *shape, dtype, place)  # fmt: skip
        place += chance.one((0, 32, 128, 4096, 2**63, 4 * 32 ** len(shape)))
        place %= 2**64
    found += bytes(-len(found) % 32) + b"\x3c" * min(place, 1 << 17)
    return chance.spoilt(found) if chance.now_and_then(0.3) else found


def _text(order: str, text: str) -> bytes:
    """A text as the format has it."""
    raw = text.encode(errors="surrogatepass")
    return struct.pack(order + "Q", len(raw)) + raw


def _value(chance: Chance, order: str, depth: int = 3) -> bytes:
    """A type and a value of it."""
    kind = chance.one((4, 8, 8, 9, chance.randrange(14)))
    head = struct.pack(order + "I", kind)
    if kind == 8:
        return head + _text(order, chance.text())
    if kind == 9 and depth:
        n = chance.one((0, 1, 2, 2**16, 2**40, 2**63))
        inner = _value(chance, order, depth - 1)
        return head + inner[:4] + struct.pack(order + "Q", n) + inner[4:] * min(n, 2)
    code = _CODES[kind] if kind < len(_CODES) and kind not in (8, 9) else "B"
    if code in "fd":
        return head + struct.pack(order + code, chance.one((0.0, 1.5, float("nan"), float("inf"))))
    n_bytes = struct.calcsize("<" + code)
    return head + bytes(chance.one((0, 1, 1, 32, 255)) if i == 0 else 0 for i in range(n_bytes))

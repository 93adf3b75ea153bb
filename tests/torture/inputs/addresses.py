"""Addresses and names of models."""

import os

from torture.chance import Chance
from torture.court import Court
from torture.ground import Ground

from registry.names import parse, printable

WHAT = "addresses"

_SEEDS = ("hf://org/name", "hf://org/name@main", "hf://org/name@" + "a" * 40 + "/sub/file.gguf", "hf://org/*", "hf:search?author=org&limit=5&filter=x",
    "hf:collection/org/title-123", "hf-cache:", "hf-cache:org/name@main", "models/base", "base", "chat+adapter", "~/x", "./x", "x.gguf", "s3://bucket/x")  # fmt: skip
_COMMANDS = (
    ("scan", "X"), ("show", "X"), ("verify", "X"), ("lineage", "X"), ("mergeable", "X", "chat"), ("stats", "X"), ("licenses", "X"), ("candidates", "X"),
    ("plan", "--method", "linear", "X", "chat"), ("extract", "X", "--rank", "1", "-o", "out"), ("push", "chat", "X", "--dry-run"), ("push", "X", "org/name", "--dry-run"),
    ("stats", "chat", "--base", "X"), ("reproduce", "X", "-o", "out"), ("score", "add", "X", "--task", "t", "--metric", "m", "--value", "1"),
    ("merge", "--method", "linear", "X", "chat", "-o", "out"), ("merge", "--method", "linear", "math", "chat", "-o", "X"), ("plan", "X"),
    ("plan", "--method", "linear", "math", "chat", "-o", "X"), ("ls", "--catalog", "X"), ("scan", "models", "--catalog", "X"), ("import", "X"), ("score", "import", "X"),
    ("demo", "--keep", "/dev/null/X"), ("sql", "from models", "--parquet", "X"), ("push", "chat", "org/x", "--dry-run", "--card", "X"), ("merge", "--stream", "--method", "linear", "X", "chat", "-o", "o"),
)  # fmt: skip


def attempt(chance: Chance, court: Court, ground: Ground) -> None:
    """Parse addresses; now and then give one to a command."""
    ground.clear()
    for _ in range(200):
        text = _made(chance)
        address = court.reads("parse", lambda given=text: parse(given))
        if address is not None:
            if parse(str(address)) != address:
                court.finds("an address that reads otherwise", f"{text!r}: {address!r}")
            if not printable(str(address)).isprintable():
                court.finds("an address that cannot be printed", repr(text))
    ground.catalog()
    for _ in range(2):
        text = _made(chance).replace("\0", "").encode(errors="surrogatepass").decode(errors="surrogateescape")  # fmt: skip
        is_all = os.path.realpath(os.path.expanduser(text)) in map(str, ground.folder.parents)
        if not is_all and not any(
            word in text for word in ("/dev/", "/proc", "/sys", "/tmp", "..")
        ):
            court.types(*(word.replace("X", text) if "X" in word else word for word in chance.one(_COMMANDS)))  # fmt: skip


def _made(chance: Chance) -> str:
    """An address, most often with damage."""
    text = chance.one(_SEEDS)
    for _ in range(chance.randrange(3)):
        place = chance.randrange(len(text) + 1)
        text = text[:place] + chance.text() + text[place + chance.randrange(3) :]
    return text if chance.now_and_then(0.8) else chance.text()

"""Bad inputs by name: what each is, how it is made, what is typed, and which error it must end in."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GOOD = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
"""A header of one tensor of two numbers."""


@dataclass(frozen=True)
class Bad:
    """One bad input.

    Attributes:
        kind: heading of the list below which it stands.
        what: the input in a few words.
        error: class of the error, or of the problem that a scan tells of; "" where it is taken as it is.
        make: writes it into a folder of its own.
        words: what is typed in that folder; () for a scan of it, together with all others.
        code: exit code.
        n_bytes: of text on stdin.
    """

    kind: str
    what: str
    error: str
    make: Callable[[Path], object]
    words: tuple[str, ...] = ()
    code: int = 1
    stdin: str = ""


def safetensors(
    header: Any = None, *, raw: bytes | None = None, length: int | None = None, data: bytes | None = bytes(8)
) -> bytes:  # fmt: skip
    """A file with this header, given as a value or as it is written, and a length that may lie."""
    text = json.dumps(GOOD if header is None else header).encode() if raw is None else raw
    return (len(text) if length is None else length).to_bytes(8, "little") + text + (data or b"")


def weights(content: bytes, name: str = "model.safetensors") -> Callable[[Path], object]:
    """A folder with one file of weights."""
    return lambda folder: (folder / name).write_bytes(content)


def files(contents: Mapping[str, bytes | str | Any]) -> Callable[[Path], object]:
    """A folder with a good file of weights, a config and others; what is neither text nor bytes is written as JSON."""

    def make(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(safetensors())
        (folder / "config.json").write_text('{"model_type": "llama"}')
        for name, content in contents.items():
            text = content if isinstance(content, str | bytes) else json.dumps(content)
            (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    return make


def nothing(folder: Path) -> None:
    """A folder with nothing in it, for commands that need none."""
    del folder

"""Indexes and shards, links, and what is no file."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torture.bad_input import GOOD, Bad, files, nothing, safetensors

KIND = "folders, indexes and links"

_INDEX = "model.safetensors.index.json"
_SHARD = "a.safetensors"


def _indexed(index: Any, **others: bytes) -> Callable[[Path], object]:
    """A folder of one shard with this index."""

    def make(folder: Path) -> None:
        files({_INDEX: index, _SHARD: safetensors(), **others})(folder)
        (folder / "model.safetensors").unlink()

    return make


def _map(weight_map: Any) -> Callable[[Path], object]:
    """The same with this map."""
    return _indexed({"weight_map": weight_map})


def _instead(
    make: Callable[[str], object], name: str = "model.safetensors"
) -> Callable[[Path], object]:
    """A folder with something else in the place of a file."""

    def replaced(folder: Path) -> None:
        files({})(folder)
        (folder / name).unlink(missing_ok=True)
        make(str(folder / name))

    return replaced


def _socket(path: str) -> None:
    """A socket that somebody left; its path may be long."""
    here = os.getcwd()
    os.chdir(os.path.dirname(path))
    try:
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(os.path.basename(path))
    finally:
        os.chdir(here)


def _link(to: str) -> Callable[[str], object]:
    return lambda path: os.symlink(to, path)


def _outside(path: str) -> None:
    """A link to a whole model beside the folder."""
    outside = Path(path).parents[2] / "outside.safetensors"
    outside.write_bytes(safetensors())
    os.symlink(outside, path)


def _raw_name(name: bytes) -> Callable[[Path], object]:
    """A model whose only file of weights has this name."""

    def make(folder: Path) -> None:
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(safetensors())

    return make


def _named(folder_name: bytes) -> Callable[[Path], object]:
    """A model in a folder of this name."""

    def make(folder: Path) -> None:
        inner = os.path.join(os.fsencode(folder), folder_name)
        os.mkdir(inner)
        with open(os.path.join(inner, b"model.safetensors"), "wb") as file:
            file.write(safetensors())

    return make


def _circle(folder: Path) -> None:
    files({})(folder)
    os.symlink("..", folder / "up")
    os.symlink("self", folder / "self")
    os.symlink("b", folder / "a")
    os.symlink("a", folder / "b")


CASES = [
    Bad(KIND, what, error, make)
    for what, error, make in (
        ("an empty folder", "EmptyCheckpoint", nothing),
        ("only a pickle, which would run a command", "UnsafeFormat", lambda folder: (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")),
        ("an index that is no JSON", "BadIndex", _indexed(b"{")),
        ("an index of 10^5 levels", "BadIndex", _indexed(b'{"weight_map": ' + b"[" * 100_000)),
        ("an index that is a list", "BadIndex", _indexed([])),
        ("an index without weight_map", "BadIndex", _indexed({"metadata": {}})),
        ("an index of numbers", "BadIndex", _map({"w": 1})),
        ("an index of nothing", "EmptyCheckpoint", _map({})),
        ("one tensor twice in the index", "BadIndex", _indexed(b'{"weight_map": {"w": "a.safetensors", "w": "b.safetensors"}}')),
        ("a shard that is not there", "MissingShard", _map({"w": "b.safetensors"})),
        ("a shard above the folder", "PathEscapes", _map({"w": "../a.safetensors"})),
        ("a shard with an absolute path", "PathEscapes", _map({"w": "/etc/passwd"})),
        ("a shard in a folder below", "PathEscapes", _map({"w": "sub/a.safetensors"})),
        ("a shard called '..'", "PathEscapes", _map({"w": ".."})),
        ("a shard called ''", "PathEscapes", _map({"w": ""})),
        ("a shard whose name has a NUL", "PathEscapes", _map({"w": "a\0.safetensors"})),
        ("a shard that is a pickle", "BadIndex", _indexed({"weight_map": {"w": "x.bin"}}, **{"x.bin": b"cos\nsystem\n"})),
        ("a shard that is the config", "BadIndex", _map({"w": "config.json"})),
        ("a tensor that no shard holds", "BadIndex", _map({"w": _SHARD, "v": _SHARD})),
        ("a tensor that the index conceals", "BadIndex", _map({"v": _SHARD})),
        ("one tensor in two shards", "DuplicateTensor", _indexed({"weight_map": {"w": _SHARD, "v": "b.safetensors"}}, **{"b.safetensors": safetensors()})),
        ("two files with the same tensor and no index", "DuplicateTensor", lambda folder: [(folder / n).write_bytes(c) for n, c in (("a.safetensors", safetensors()), ("b.safetensors", safetensors()), ("config.json", b"{}"))]),
        ("a shard beside the index that it does not name", "BadIndex", _indexed({"weight_map": dict.fromkeys(GOOD, _SHARD)}, **{"b.safetensors": safetensors({"v": GOOD["w"]})})),
        ("a pipe in the place of the weights", "Unreadable", _instead(os.mkfifo)),
        ("a socket in the place of the weights", "Unreadable", _instead(_socket)),
        ("a link to an endless device", "PathEscapes", _instead(_link("/dev/zero"))),
        ("a link out of the folder", "PathEscapes", _instead(_outside)),
        ("a link that leads nowhere", "MissingShard", _instead(_link("nowhere"))),
        ("a link to itself", "MissingShard", _instead(_link("model.safetensors"))),
        ("a link to the folder", "", _instead(_link("."))),
        ("a folder called model.safetensors", "EmptyCheckpoint", _instead(os.mkdir)),
        ("a pipe in the place of the config", "Unreadable", _instead(os.mkfifo, "config.json")),
        ("a pipe in the place of the card", "Unreadable", _instead(os.mkfifo, "README.md")),
        ("a pipe in the place of the sidecar", "Unreadable", _instead(os.mkfifo, "homolog.json")),
        ("a pipe in the place of the tokenizer", "", _instead(os.mkfifo, "tokenizer.json")),
        ("a socket in the place of the recipe", "Unreadable", _instead(_socket, "mergekit_config.yml")),
        ("a device in the place of the config", "PathEscapes", _instead(_link("/dev/zero"), "config.json")),
        ("a folder called config.json", "EmptyCheckpoint", _instead(os.mkdir, "config.json")),
        ("links that lead in circles", "Unreadable", _circle),
        ("a file whose name has 255 bytes", "", _raw_name(b"w" * 243 + b".safetensors")),
        ("a file whose name is not UTF-8", "", _raw_name(b"w\xff.safetensors")),
        ("a folder whose name is not UTF-8", "", _named(b"not \xff utf-8")),
        ("a folder whose name turns the terminal red", "", _named(b"\x1b[31mred")),
        ("a folder whose name is written from right to left", "", _named("\u202edetrever".encode())),
        ("a folder whose name has a line end and a bell", "", _named(b"a\nb\x07")),
        ("a folder whose name has 255 bytes", "", _named(b"m" * 255)),
    )
]  # fmt: skip

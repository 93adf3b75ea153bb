"""Permissions, read-only disks, folders that are missing: a named error, nothing lost, and all as it should be once that is mended."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torture.lab import NONE, Case, Ended, Fault, Lab
from torture.world import begin, keeps, no_half, rows

COMMANDS = {
    "ls": ("ls",),
    "show": ("show", "chat"),
    "sql": ("sql", "from models"),
    "parquet": ("sql", "from models", "--parquet", "made"),
    "scan": ("scan", "../models"),
    "import": ("import", "../listing.jsonl"),
    "score": ("score", "add", "math", "--task", "t", "--metric", "m", "--value", "1"),
    "stats": ("stats", "chat"),
    "infer": ("infer",),
    "plan": ("plan", "--method", "linear", "chat", "math"),
    "merge": ("merge", "--method", "linear", "chat", "math", "-o", "made"),
    "extract": ("extract", "chat", "--base", "base", "--rank", "2", "-o", "made"),
    "verify": ("verify", "../models/chat"),
    "push": ("push", "chat", "org/chat", "--dry-run"),
}  # fmt: skip
"""Run in the folder out, with the catalog in the folder of the lab's name kept."""


def _run(
    lab: Lab, name: str, env: dict[str, str | None], fault: Fault = NONE, cwd: Path | None = None
) -> Ended:
    """Run a command as somebody whom permissions keep out."""
    return lab.reg(*COMMANDS[name], env=env, plain=True, fault=fault, cwd=cwd or lab.folder / "out")


@contextmanager
def _bits(path: Path, mode: int) -> Iterator[None]:
    """Give a path other permissions for a while."""
    before = path.stat().st_mode
    path.chmod(mode)
    try:
        yield
    finally:
        path.chmod(before)


def _begin(lab: Lab) -> Path:
    """All as it was, the catalog in a folder of its own; where that is."""
    for folder in ("models", "kept", "out", "home"):
        for path in (lab.folder / folder, *(lab.folder / folder).rglob("*")):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
    begin(lab)
    (lab.folder / "kept").mkdir()
    return shutil.move(lab.folder / "catalog.duckdb", lab.folder / "kept" / "catalog.duckdb")


FORBIDDEN: dict[str, tuple[str, int]] = {
    "models": ("models", 0), "a model's folder": ("models/chat", 0), "a model's folder, listed only": ("models/chat", 0o444),
    "weights": ("models/chat/model.safetensors", 0), "a config": ("models/chat/config.json", 0), "a card": ("models/chat/README.md", 0),
    "an index": ("models/sharded/model.safetensors.index.json", 0), "a shard": ("models/sharded/model-00002-of-00002.safetensors", 0),
    "the catalog": ("kept/catalog.duckdb", 0), "the catalog, read only": ("kept/catalog.duckdb", 0o444),
    "the catalog's folder": ("kept", 0), "the catalog's folder, read only": ("kept", 0o555), "the output's folder": ("out", 0o555),
    "the home": ("home", 0), "the listing": ("listing.jsonl", 0),
}  # fmt: skip
READ_ONLY = ("models", "kept", "out")


def try_forbidden(lab: Lab, name: str) -> None:
    """Forbid one path while some commands run; afterwards they run as if nothing had been."""
    path, mode = FORBIDDEN[name]
    for command in _some(lab):
        catalog = _begin(lab)
        if command == "scan" and lab.rng.random() < 0.5:
            catalog.unlink()
        env = {"REG_CATALOG": str(catalog)}
        before = rows(lab, catalog)
        with _bits(lab.folder / path, mode):
            ended = _run(lab, command, env)
        _settled(lab, command, before, catalog, ended, f"{name} forbidden")


def try_read_only(lab: Lab, name: str) -> None:
    """Run commands on a disk that is read-only: mounted so, or a folder whose permissions say so."""
    for command in _some(lab):
        catalog = _begin(lab)
        env = {"REG_CATALOG": str(catalog)}
        before = rows(lab, catalog)
        place = lab.folder / name
        if lab.may_mount:
            subprocess.run(["mount", "--bind", place, place], check=True)
            subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
            try:
                ended = _run(lab, command, env)
            finally:
                subprocess.run(["umount", "-l", place], check=True)
        else:
            with _bits(place, 0o555):
                ended = _run(lab, command, env)
        _settled(lab, command, before, catalog, ended, f"{name} on a read-only disk")


def _some(lab: Lab) -> list[str]:
    """Some commands, by chance."""
    return lab.rng.sample(sorted(COMMANDS), lab.n_each)


def _settled(
    lab: Lab, command: str, before: object, catalog: Path, ended: Ended, told: str
) -> None:
    """What must hold after a refusal, and that the command does its work afterwards."""
    lab.found.faults += ended.code != 0
    keeps(lab, before, catalog, f"{told}: {ended}")
    lab.check("move the file away" not in ended.err, f"bad advice, {told}: {ended}")
    lab.check(not ended.err.startswith("usage:"), f"{told}: {ended}")
    if ended.code:
        no_half(lab, lab.folder / "out" / "made", None, ended)
    if ended.code or command == "scan":
        again = _run(lab, command, {"REG_CATALOG": str(catalog)})
        lab.check(again.code == 0, f"{told}: {ended}; allowed again: {again}")
    if command == "scan":
        fresh = lab.folder / "fresh.duckdb"
        _run(lab, command, {"REG_CATALOG": str(fresh)})
        known, true = (
            sorted(
                r
                for r in rows(lab, path)
                if r.split()[0] in ("address", "file", "claim", "problem")
            )
            for path in (catalog, fresh)
        )
        lab.check(known == true, f"{told}, scanned again: {sorted(set(known) ^ set(true))[:3]}")


PLACES: dict[str, Callable[[Lab], dict[str, str | None]]] = {
    "the catalog's folder is missing": lambda lab: {"REG_CATALOG": str(lab.folder / "no" / "such" / "catalog.duckdb")},
    "the catalog's folder is a file": lambda lab: {"REG_CATALOG": str(lab.folder / "listing.jsonl" / "catalog.duckdb")},
    "the catalog is a folder": lambda lab: {"REG_CATALOG": str(lab.folder / "kept")},
    "the catalog's name is too long": lambda lab: {"REG_CATALOG": str(lab.folder / ("n" * 256))},
    "the catalog's path is too long": lambda lab: {"REG_CATALOG": str(lab.folder) + "/nnnnnnn" * 600},
    "the catalog's name is just short enough": lambda lab: {"REG_CATALOG": str(lab.folder / "kept" / ("n" * 250))},
    "the catalog is a pipe": lambda lab: {"REG_CATALOG": _pipe(lab)},
    "the catalog is a broken link": lambda lab: {"REG_CATALOG": _link(lab)},
    "no home": lambda _: {"HOME": None, "REG_CATALOG": None},
    "a home that is missing": lambda lab: {"HOME": str(lab.folder / "nowhere"), "REG_CATALOG": None},
    "a home that is a file": lambda lab: {"HOME": str(lab.folder / "listing.jsonl"), "REG_CATALOG": None},
    "no temporary folder": lambda lab: {"TMPDIR": str(lab.folder / "nowhere")},
    "a temporary folder that is full": lambda lab: {"TMPDIR": str(lab.folder / "home")},
}  # fmt: skip


def _pipe(lab: Lab) -> str:
    """A pipe."""
    os.mkfifo(lab.folder / "kept" / "pipe")
    return str(lab.folder / "kept" / "pipe")


def _link(lab: Lab) -> str:
    """A link that leads nowhere."""
    (lab.folder / "kept" / "link").symlink_to(lab.folder / "gone" / "c.duckdb")
    return str(lab.folder / "kept" / "link")


def try_place(lab: Lab, name: str) -> None:
    """Let the catalog, the home or the temporary folder be somewhere odd."""
    for command in _some(lab):
        catalog = _begin(lab)
        before = rows(lab, catalog)
        env = {"REG_CATALOG": str(catalog)} | PLACES[name](lab)
        fault = Fault(lab.folder / "home", room=0) if name.endswith("full") else NONE
        ended = _run(lab, command, env, fault)
        _settled(lab, command, before, catalog, ended, name)


def try_no_place(lab: Lab) -> None:
    """Run where the folder has been removed."""
    for command in _some(lab):
        catalog = _begin(lab)
        before = rows(lab, catalog)
        gone = lab.folder / "gone"
        gone.mkdir(exist_ok=True)
        here = os.getcwd()
        os.chdir(gone)
        gone.rmdir()
        env = {"REG_CATALOG": str(catalog) if lab.rng.random() < 0.5 else None}
        ended = _run(lab, command, env, cwd=Path("."))
        os.chdir(here)
        _settled(lab, command, before, catalog, ended, "no working folder")


CASES: tuple[Case, ...] = (
    *((name, try_place, (name,)) for name in PLACES),
    ("a working folder that was removed", try_no_place, ()),
    *((f"read-only disk: {name}", try_read_only, (name,)) for name in READ_ONLY),
    *((f"forbidden: {name}", try_forbidden, (name,)) for name in FORBIDDEN),
)

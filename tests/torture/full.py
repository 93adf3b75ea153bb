"""A full disk at every stage: a named error, a catalog as it was, no half model; with room, the next run ends as if nothing was."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torture.lab import NONE, Case, Ended, Fault, Lab
from torture.world import begin, keeps, no_half, rows, tree

MERGE = ("merge", "--method", "linear", "chat", "math", "--shard-size", "300KB", "--jobs", "1")


@dataclass(frozen=True)
class Stage:
    """One command, and what of it lies on the small disk.

    Attributes:
        words: of the command; OUT stands for its output.
        catalog: lies there.
        output: lies there.
        stdout: is a file there.
        new: it begins without a catalog.
    """

    words: tuple[str, ...]
    catalog: bool = True
    output: bool = False
    stdout: bool = False
    new: bool = False


STAGES = {
    "scan": Stage(("scan", "models", "--jobs", "1"), new=True),
    "scan --sketch": Stage(("scan", "models", "--sketch")),
    "stats": Stage(("stats", "--all", "--spectral")),
    "infer": Stage(("infer",)),
    "import": Stage(("import", "listing.jsonl")),
    "import into nothing": Stage(("import", "listing.jsonl"), new=True),
    "score add": Stage(("score", "add", "math", "--task", "t", "--metric", "acc", "--value", "1")),
    "merge, output there": Stage((*MERGE, "-o", "OUT"), catalog=False, output=True),
    "merge, catalog there": Stage((*MERGE, "-o", "OUT")),
    "merge, both there": Stage((*MERGE, "-o", "OUT"), output=True),
    "extract": Stage(("extract", "chat", "--base", "base", "--rank", "4", "-o", "OUT"), output=True),
    "sql --csv": Stage(("sql", "from tensors", "--csv"), catalog=False, stdout=True),
    "sql --json": Stage(("sql", "from tensors", "--json"), catalog=False, stdout=True),
    "sql --parquet": Stage(("sql", "from tensors", "--parquet", "OUT"), catalog=False, output=True),
}  # fmt: skip


@dataclass(frozen=True)
class Room:
    """Where one stage runs.

    Attributes:
        lab: that it runs in.
        stage: which.
    """

    lab: Lab
    stage: Stage

    @property
    def small(self) -> Path:
        """The small disk."""
        return self.lab.folder / "small"

    @property
    def catalog(self) -> Path:
        """Of the stage."""
        folder = self.small if self.stage.catalog else self.lab.folder
        return folder / "catalog.duckdb"

    @property
    def output(self) -> Path:
        """Of the stage."""
        return (self.small if self.stage.output else self.lab.folder / "out") / "made"

    def prepare(self) -> None:
        """Bring the catalog there."""
        if self.stage.new:
            (self.lab.folder / "catalog.duckdb").unlink()
        elif self.stage.catalog:
            shutil.move(self.lab.folder / "catalog.duckdb", self.catalog)

    def run(self, fault: Fault = NONE) -> Ended:
        """Run the command."""
        words = [str(self.output) if word == "OUT" else word for word in self.stage.words]
        answer = self.small / "answer" if self.stage.stdout else None
        return self.lab.reg(
            *words, fault=fault, env={"REG_CATALOG": str(self.catalog)}, stdout=answer
        )

    def used(self) -> int:
        """Bytes on the small disk, in whole blocks as a disk counts them."""
        files = (path.lstat() for path in self.small.rglob("*"))
        return sum(512 * status.st_blocks for status in files)

    def outcome(self) -> dict[str, Any]:
        """What there is in the end."""
        made = {k: v.hex() for k, v in (tree(self.output) or {}).items()}
        answer = self.small / "answer"
        said = answer.read_text(errors="replace") if answer.exists() else ""
        return {"rows": dict(rows(self.lab, self.catalog)), "made": made, "answer": said}


def wanted(lab: Lab, name: str, stage: Stage) -> dict[str, Any]:
    """How a stage ends on a disk with room, and what it takes: found out once."""
    file = lab.folder / "wanted" / f"{name}.json"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        begin(lab)
        room = Room(lab, stage)
        with lab.small_disk(room.small):
            room.prepare()
            before = room.used()
            ended = room.run()
            assert ended.code == 0, ended
            file.write_text(json.dumps(room.outcome() | {"takes": room.used() - before}))
    known: dict[str, Any] = json.loads(file.read_text())
    return known


def try_stage(lab: Lab, name: str) -> None:
    """Run a stage on a disk with too little room, then again with enough."""
    stage = STAGES[name]
    want = wanted(lab, name, stage)
    whole = {k: bytes.fromhex(v) for k, v in want["made"].items()}
    begin(lab)
    room = Room(lab, stage)
    with lab.small_disk(room.small):
        room.prepare()
        before = rows(lab, room.catalog)
        free = lab.rng.choice((0, lab.rng.randrange(0, want["takes"] + 4096)))
        mounted = lab.may_mount and lab.rng.random() < 0.7
        if mounted:
            _fill(room.small, free)
        ended = room.run(NONE if mounted else Fault(room.small, room=free))
        if ended.code:
            lab.found.faults += 1
            said = ended.err.lower()
            told = any(w in said for w in ("space", "free", "cannot write", "cannot be written"))
            lab.check(told, f"{name}, {free} free: {ended}")
        keeps(lab, before, room.catalog, ended)
        no_half(lab, room.output, whole, ended)
        (room.small / "filler").unlink(missing_ok=True)
        again = room.run() if ended.code or stage.stdout else ended
        lab.check(again.code == 0, f"{name}, with room again: {again}")
        have = room.outcome()
        for what in ("rows", "made", "answer"):
            same = have[what] == want[what]
            lab.check(
                same,
                f"{name}, {free} free, then with room: other {what}: {_unlike(have[what], want[what])}",
            )
        lab.check(not _litter(room), f"{name}, {free} free: left {_litter(room)} after {ended}")


def _fill(folder: Path, free: int) -> None:
    """Leave so many bytes."""
    with (folder / "filler").open("wb", buffering=0) as file:
        with_room = shutil.disk_usage(folder).free - free // 4096 * 4096
        file.write(bytes(max(0, with_room)))


def _litter(room: Room) -> list[str]:
    """What lies beside the catalog and the output that nobody asked for."""
    known = {"catalog.duckdb", "answer", "made", "catalog.duckdb.wal"}
    return sorted(path.name for path in room.small.iterdir() if path.name not in known)


def _unlike(have: Any, want: Any) -> str:
    """Where two outcomes differ."""
    if isinstance(have, dict):
        keys = [k for k in {**have, **want} if have.get(k) != want.get(k)]
        return f"{len(keys)}: {[(k[:200], have.get(k, '') if not isinstance(have.get(k), str) else '', want.get(k, '') if not isinstance(want.get(k), str) else '') for k in keys[:3]]}"
    return f"{len(have)} and {len(want)} characters"


CASES: tuple[Case, ...] = tuple((f"full disk: {name}", try_stage, (name,)) for name in STAGES)

"""Files that change, vanish or cannot be read any more while a command reads them: said by name, and nothing wrong is registered."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from torture.lab import NONE, Case, Ended, Fault, Lab
from torture.world import begin, keeps, no_half, rows, tree

COMMANDS = {
    "scan": ("scan", "models", "--jobs", "1"),
    "stats": ("stats", "chat", "--jobs", "1"),
    "merge": ("merge", "--method", "linear", "chat", "math", "-o", "out/made", "--jobs", "1"),
    "extract": ("extract", "chat", "--base", "base", "--rank", "4", "-o", "out/made", "--jobs", "1"),
    "verify": ("verify", "chat"),
}  # fmt: skip
HEADER_READS = 2


def run(
    lab: Lab, name: str, fault: Fault = NONE, meanwhile: Callable[[], object] | None = None
) -> Ended:
    """Run one of the commands."""
    env = {"REG_CATALOG": str(lab.folder / "catalog.duckdb")}
    return lab.reg(*COMMANDS[name], fault=fault, env=env, meanwhile=meanwhile)


def damage(lab: Lab, file: Path, kinds: tuple[str, ...]) -> tuple[str, Callable[[], object]]:
    """A change of a file, by chance, and what does it."""
    kind = lab.rng.choice(kinds)
    status, content = file.stat(), file.read_bytes()
    times = (status.st_atime_ns, status.st_mtime_ns)
    place = lab.rng.randrange(len(content) // 2, len(content))
    other = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]

    def change() -> None:
        if kind == "vanished":
            file.unlink()
        elif kind == "truncated":
            os.truncate(file, place)
        elif kind == "emptied":
            os.truncate(file, 0)
        elif kind == "grown":
            with file.open("ab") as end:
                end.write(bytes(64))
        elif kind == "moved":
            file.parent.rename(file.parent.with_name("elsewhere"))
        elif kind == "replaced":
            new = file.with_name("new")
            new.write_bytes(other)
            os.utime(new, ns=times)
            new.replace(file)
        elif kind == "turned to a pipe":
            file.unlink()
            os.mkfifo(file)
        else:
            with file.open("r+b") as end:
                end.write(other)
            if kind == "rewritten, with its old time":
                os.utime(file, ns=times)

    return kind, change


KINDS = (
    "vanished", "truncated", "emptied", "grown", "moved", "replaced", "turned to a pipe", "rewritten",
    "rewritten, with its old time",
)  # fmt: skip


def try_change(lab: Lab, name: str) -> None:
    """Change a file of weights before one of a command's reads of it."""
    wanted = _wanted(lab, name)
    models = begin(lab)
    if name == "scan":
        (lab.folder / "catalog.duckdb").unlink()
    catalog = lab.folder / "catalog.duckdb"
    before = rows(lab, catalog)
    file = models / "chat" / "model.safetensors"
    old = {ref.name: ref.read_bytes() for ref in file.parent.iterdir()}
    kind, change = damage(lab, file, KINDS)
    nth = lab.rng.randint(HEADER_READS + 1, max(HEADER_READS + 1, wanted["reads"]))
    ended = run(lab, name, Fault(file, read=nth), change)
    told = f"{kind} before read {nth} of {wanted['reads']}: {ended}"
    keeps(lab, before, catalog, ended)
    no_half(lab, lab.folder / "out" / "made", None, ended)
    if name == "scan":
        _agrees(lab, catalog, models, told)
        return
    if name != "verify":
        lab.check(ended.code == 1, f"not refused: {told}")
    new = rows(lab, catalog) - before
    bad = [
        row for row in new if row.split()[0] in ("pair", "delta", "edge", "model", "run", "address")
    ]
    lab.check(not bad, f"registered {bad[:1]}: {told}")
    shutil.rmtree(file.parent, ignore_errors=True)
    shutil.rmtree(models / "elsewhere", ignore_errors=True)
    file.parent.mkdir()
    for part, content in old.items():
        (file.parent / part).write_bytes(content)
        status = (lab.folder / "pristine" / "chat" / part).stat()
        os.utime(file.parent / part, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = run(lab, name)
    made = {k: v.hex() for k, v in (tree(lab.folder / "out" / "made") or {}).items()}
    lab.check(again.code == 0 and made == wanted["made"], f"after {told}, put back: {again}")


def _wanted(lab: Lab, name: str) -> dict:
    """What a command makes, and how often it reads the file that changes: found out once."""
    file = lab.folder / "wanted" / f"change {name}.json"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        models = begin(lab)
        if name == "scan":
            (lab.folder / "catalog.duckdb").unlink()
        ended = run(lab, name, Fault(models / "chat" / "model.safetensors", counts=True))
        assert ended.code == 0, ended
        made = {k: v.hex() for k, v in (tree(lab.folder / "out" / "made") or {}).items()}
        held = dict(rows(lab, lab.folder / "catalog.duckdb"))
        file.write_text(json.dumps({"reads": ended.n_reads, "made": made, "rows": held}))
    return json.loads(file.read_text())


def _agrees(lab: Lab, catalog: Path, models: Path, told: str) -> None:
    """After another scan a catalog must know what a new one knows."""
    lab.reg("scan", models, env={"REG_CATALOG": str(catalog)})
    fresh = lab.folder / "fresh.duckdb"
    lab.reg("scan", models, env={"REG_CATALOG": str(fresh)})
    known, true = (_places(rows(lab, path)) for path in (catalog, fresh))
    lab.check(known == true, f"scanned again, {sorted(set(known) ^ set(true))}: {told}")


def _places(held: object) -> list[str]:
    """The rows that say what lies where."""
    return sorted(row for row in held if row.split()[0] in ("address", "file", "problem", "claim"))


def try_bad_sector(lab: Lab, name: str) -> None:
    """Let the reads of one file fail from some read on; the next run finds all as it was."""
    wanted = _wanted(lab, name)
    models = begin(lab)
    catalog = lab.folder / "catalog.duckdb"
    if name == "scan":
        catalog.unlink()
    before = rows(lab, catalog)
    file = lab.rng.choice([
        path for path in sorted(models.rglob("*")) if path.is_file() and (name == "scan" or path.parent.name in ("chat", "base"))
    ])  # fmt: skip
    fault = Fault(
        file,
        read=lab.rng.randint(1, wanted["reads"] + 1),
        error=lab.rng.choice((errno.EIO, errno.EACCES, errno.ESTALE)),
    )
    ended = run(lab, name, fault)
    lab.found.faults += ended.n_reads >= (fault.read or 0)
    told = f"{file.parent.name}/{file.name}, error {fault.error} from read {fault.read} on: {ended}"
    keeps(lab, before, catalog, ended)
    if ended.code:
        no_half(lab, lab.folder / "out" / "made", None, ended)
        shutil.rmtree(lab.folder / "out" / "made", ignore_errors=True)
    again = run(lab, name) if ended.code or name == "scan" else ended
    lab.check(again.code == 0, f"after {told}, again: {again}")
    made = {k: v.hex() for k, v in (tree(lab.folder / "out" / "made") or {}).items()}
    lab.check(made == wanted["made"], f"other bytes {sorted(made)}: {told}")
    if name == "scan":
        held = dict(rows(lab, catalog))
        odd = sorted(set(held) ^ set(wanted["rows"]))
        lab.check(not odd, f"scanned again, {odd[:3]}: {told}")


CASES: tuple[Case, ...] = (
    *((f"weights that change during {name}", try_change, (name,)) for name in COMMANDS),
    *((f"reads that fail during {name}", try_bad_sector, (name,)) for name in COMMANDS),
)

"""Names, clocks and places that are odd: all is scanned, shown and merged, or refused by name; a catalog that is taken away is told of."""

import os
import shutil
from pathlib import Path

from torture.lab import Case, Ended, Fault, Lab
from torture.world import begin, keeps, no_half, rows, tree

YEAR_SECONDS = 31_556_952

NAMES = {
    "of 255 bytes": "n" * 255, "of 255 bytes of UTF-8": "é" * 127 + "n", "with a newline": "two\nlines", "that ends in a dot": "end.",
    "that ends in spaces": "end  ", "that begins with a dash": "-o", "of one quote": "'", "of SQL": "'); drop table store.model; --",
    "that a terminal obeys": "a\x1b[31mb", "not of UTF-8": "b\udcff", "like an address": "hf:x", "of a percent sign": "%s%n",
    "with a plus": "chat+math", "with a colon": "a:b", "of a tilde": "~",
}  # fmt: skip


def _env(lab: Lab) -> dict[str, str | None]:
    """The lab's own catalog."""
    return {"REG_CATALOG": str(lab.folder / "catalog.duckdb")}


def try_name(lab: Lab) -> None:
    """Scan, show and merge a model under an odd name; an output of that name is whole or not there."""
    what = lab.rng.choice(sorted(NAMES))
    models = begin(lab)
    place = models / NAMES[what]
    shutil.copytree(models / "math", place)
    lab.found.faults += 1
    try:
        catalog = lab.folder / "catalog.duckdb"
        before = rows(lab, catalog)
        scanned = lab.reg("scan", models, env=_env(lab))
        lab.check(scanned.code == 0, f"{what}: {scanned}")
        lab.check("\x1b[31mb" not in scanned.out + scanned.err, f"{what}: obeyed: {scanned}")
        keeps(lab, before, catalog, scanned)
        found = [row for row in rows(lab, catalog) if row.startswith("address")]
        lab.check(len(found) == 5, f"{what}: {len(found)} places: {scanned}")
        again = lab.reg("scan", models, "--json", env=_env(lab))
        lab.check('"unchanged": 5' in again.out, f"{what}: read again: {again.out[:300]}")
        merged = lab.reg(
            "merge", "--method", "linear", "chat", place, "-o", "out/made", env=_env(lab)
        )
        lab.check(merged.code == 0, f"{what}: {merged}")
        output = lab.folder / "out" / "of" / NAMES[what]
        made = lab.reg("merge", "--method", "linear", "chat", "math", "-o", output, env=_env(lab))
        no_half(lab, output, tree(output) if made.code == 0 else None, made)
        for words in (("ls",), ("show", place), ("verify", place), ("ls", "--json")):
            ended = lab.reg(*words, env=_env(lab))
            lab.check(ended.code == 0, f"{what}: {ended}")
    finally:
        shutil.rmtree(place)


def try_two_cases(lab: Lab) -> None:
    """Two models whose names differ in their case only are two; a path longer than the system takes is refused by name."""
    models = begin(lab)
    shutil.copytree(models / "math", models / "CHAT")
    try:
        lab.reg("scan", models, env=_env(lab))
        ended = lab.reg("show", "chat", env=_env(lab))
        lab.check(ended.code == 1 and "names 2 models" in ended.err, ended)
        there = lab.reg("show", models / "CHAT", env=_env(lab))
        lab.check(there.code == 0, there)
    finally:
        shutil.rmtree(models / "CHAT")
    for words in (("scan", "/n" * 3000), ("show", "n" * 5000), ("verify", "n/" * 3000), ("scan", "n" * 300),
                  ("merge", "--method", "linear", "chat", "math", "-o", "n" * 240), ("sql", "from models", "--parquet", "n" * 300),
                  ("merge", "--method", "linear", "chat", "math", "-o", "out/" + "n" * 300)):  # fmt: skip
        ended = lab.reg(*words, env=_env(lab))
        lab.found.faults += ended.code != 0
        no_half(lab, lab.folder / "out" / "made", None, ended)
    for left in lab.folder.glob("n*"):
        shutil.rmtree(left)


def try_clock(lab: Lab) -> None:
    """Let the clock be wrong for some commands, and go backwards between them."""
    begin(lab)
    catalog = lab.folder / "catalog.duckdb"
    before = rows(lab, catalog)
    for words in (
        ("scan", "models"), ("stats", "chat"), ("score", "add", "math", "--task", "t", "--metric", "m", "--value", "1"),
        ("merge", "--method", "linear", "chat", "math", "-o", "out/made"), ("infer",), ("ls",), ("show", "chat"), ("verify", "chat"),
    ):  # fmt: skip
        year = lab.rng.choice((1970, 1971, 2037, 2039, 2106, 2200, 2261))
        later = (year - 2024) * YEAR_SECONDS
        ended = lab.reg(*words, env=_env(lab), fault=Fault(later=later))
        lab.found.faults += 1
        lab.check(ended.code == 0, f"in {year}: {ended}")
        keeps(lab, before, catalog, f"in {year}: {ended}")
        before = rows(lab, catalog)


def try_times(lab: Lab) -> None:
    """Files from all times: they are scanned, and not read again."""
    models = begin(lab)
    file = models / "chat" / lab.rng.choice(("model.safetensors", "config.json", "README.md"))
    seconds = lab.rng.choice(
        (
            -(2**31),
            -1,
            0,
            1,
            2**31,
            2**32 + 1,
            7_258_118_400,
            9_223_372_036,
            9_223_372_037,
            13_000_000_000,
        )
    )
    status = file.stat()
    os.utime(file, ns=(0, seconds * 10**9 + 7))
    lab.found.faults += 1
    first = lab.reg("scan", models, "--json", env=_env(lab))
    lab.check('"updated": 1' in first.out, f"at {seconds}: {first} {first.out[:200]}")
    second = lab.reg("scan", models, "--json", env=_env(lab))
    lab.check('"unchanged": 4' in second.out, f"at {seconds}: {second} {second.out[:200]}")
    merged = lab.reg("merge", "--method", "linear", "chat", "math", "-o", "out/made", env=_env(lab))
    lab.check(merged.code == 0, f"at {seconds}: {merged}")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def _taken(lab: Lab, how: str) -> None:
    """Do something to the catalog's file."""
    catalog = lab.folder / "catalog.duckdb"
    if how == "deleted":
        catalog.unlink()
    elif how == "replaced by an older copy":
        shutil.copy2(lab.folder / "pristine" / "known.duckdb", lab.folder / "new")
        (lab.folder / "new").replace(catalog)
    elif how == "replaced by something else":
        (lab.folder / "new").write_bytes(os.urandom(1 << 16))
        (lab.folder / "new").replace(catalog)
    elif how == "emptied":
        os.truncate(catalog, 0)
    elif how == "replaced by a folder":
        catalog.unlink()
        catalog.mkdir()


TAKEN = (
    "deleted", "replaced by an older copy", "replaced by something else", "emptied",
    "replaced by a folder",
)  # fmt: skip
WORK = {
    "scan": ("scan", "models"),
    "stats": ("stats", "chat"),
    "merge": ("merge", "--method", "linear", "chat", "math", "-o", "out/made"),
    "extract": ("extract", "chat", "--base", "base", "--rank", "2", "-o", "out/made"),
}


def try_taken(lab: Lab, how: str) -> None:
    """Take the catalog away while a command reads weights."""
    name = lab.rng.choice(sorted(WORK))
    models = begin(lab)
    catalog = lab.folder / "catalog.duckdb"
    os.utime(models / "chat" / "model.safetensors")
    lab.reg("scan", models, "--headers-only", env=_env(lab))
    if name != "scan":
        lab.reg("scan", models, env=_env(lab))
    fault = Fault(models / "chat" / "model.safetensors", read=3)
    ended = lab.reg(*WORK[name], env=_env(lab), fault=fault, meanwhile=lambda: _taken(lab, how))
    output = lab.folder / "out" / "made"
    no_half(lab, output, tree(output) if ended.code == 0 else None, f"{how}: {ended}")
    if catalog.is_dir():
        catalog.rmdir()
    elif how == "replaced by something else" and catalog.exists():
        lab.check(ended.code == 1, f"{how}: {ended}")
        catalog.unlink()
    shutil.rmtree(output, ignore_errors=True)
    lab.check(_has_no_orphans(lab, catalog), f"{how}: rows of models that are not there: {ended}")
    lab.reg("scan", models, env=_env(lab))
    again = lab.reg(*WORK[name], env=_env(lab))
    lab.check(again.code == 0, f"{how}: {ended}, then {again}")


def _has_no_orphans(lab: Lab, catalog: Path) -> bool:
    """Whether no row refers to a model that is not there."""
    if not catalog.exists() or not catalog.stat().st_size:
        return True

    def asked() -> list[object]:
        from scanned import orphans  # noqa: PLC0415 - in the fork

        from registry.catalog import Catalog  # noqa: PLC0415

        return list(orphans(Catalog(catalog)))

    return not lab.ask(asked)


def try_other_disk(lab: Lab) -> None:
    """Write through a link to another file system, and where the parent is a link: the same bytes as anywhere."""
    begin(lab)
    words = ("merge", "--method", "linear", "chat", "math", "-o")
    plain = lab.reg(*words, "out/made", env=_env(lab))
    wanted = tree(lab.folder / "out" / "made")
    with lab.small_disk(lab.folder / "small"):
        (lab.folder / "small" / "inner").mkdir()
        (lab.folder / "out" / "link").symlink_to(lab.folder / "small" / "inner")
        (lab.folder / "out" / "to").symlink_to(lab.folder / "small")
        lab.found.faults += 1
        for place in ("link", "to/made"):
            ended = lab.reg(*words, lab.folder / "out" / place, env=_env(lab))
            made = tree((lab.folder / "out" / place).resolve())
            lab.check(ended.code == 0 and made == wanted, f"{place}: {plain} {ended}")
        left = sorted(path.name for path in (lab.folder / "small").iterdir())
        lab.check(left == ["inner", "made"], f"left {left}")


def try_swapped_link(lab: Lab) -> None:
    """Let a link to a model's folder lead to another model while it is read."""
    models = begin(lab)
    (lab.folder / "out" / "one").symlink_to(models / "chat")
    catalog = lab.folder / "new.duckdb"
    name, words = lab.rng.choice(
        (
            ("scan", ("scan", "out/one")),
            ("merge", ("merge", "--method", "linear", "out/one", "base", "-o", "out/made")),
        )
    )

    def swap() -> None:
        (lab.folder / "out" / "two").symlink_to(models / "math")
        (lab.folder / "out" / "two").replace(lab.folder / "out" / "one")

    fault = Fault(models / "chat" / "model.safetensors", read=lab.rng.randint(1, 6))
    ended: Ended = lab.reg(*words, env={"REG_CATALOG": str(catalog)}, fault=fault, meanwhile=swap)
    lab.reg("scan", models, env={"REG_CATALOG": str(catalog)})
    known, fresh = rows(lab, catalog), lab.folder / "fresh.duckdb"
    lab.reg("scan", models, env={"REG_CATALOG": str(fresh)})
    missing = {row for row in rows(lab, fresh) if row.startswith(("address", "file"))} - set(known)
    lab.check(not missing, f"{name}: {missing}: {ended}")


CASES: tuple[Case, ...] = (
    ("a model with an odd name", try_name, ()),
    ("names that clash or are too long", try_two_cases, ()),
    ("a clock that goes wrong", try_clock, ()),
    ("files of other centuries", try_times, ()),
    *((f"a catalog {how} meanwhile", try_taken, (how,)) for how in TAKEN),
    ("an output on another disk", try_other_disk, ()),
    ("a link that is swapped", try_swapped_link, ()),
)

"""Around a catalog, on the disk: places that vanished or changed, and what work that was stopped left behind."""

import fcntl
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from registry.database import Reader
from registry.finding import Finding, examples
from registry.scratch import PREFIX
from registry.sources import JOURNAL, UNFINISHED


def check_places(reader: Reader) -> Iterator[Finding]:
    """Places whose files are gone, or are not those that were read."""
    roots = {
        row["uri"]: row["root"]
        for row in reader.rows(
            "select uri, root from store.address where source in ('local', 'hf-cache') "
            "union all select distinct uri, uri from store.problem "
            "where starts_with(uri, '/') and uri not in (select uri from store.address) order by uri"
        )
    }
    there, gone, hidden = _sorted(roots)
    if gone:
        yield Finding(
            "vanished", "address", len(gone), f"nothing is left at {examples([roots[uri] for uri in gone], len(gone))}",
            repair="the places are forgotten, as reg scan of the folder above does; what is known of their models is kept",
            can_repair=True, forgets=tuple(gone),
        )  # fmt: skip
    if hidden:
        above = sorted({str(Path(roots[uri]).parent) for uri in hidden})
        yield Finding(
            "out_of_reach", "address", len(hidden), f"not even the folder is there: {examples(above, len(above))}; a disk may not be mounted",
            repair="left as they are; reg scan of a folder above forgets what is not there", is_damage=False,
        )  # fmt: skip
    changed = sorted(_changed(reader, there))
    if changed:
        places = [there[uri] for uri in changed]
        yield Finding(
            "changed", "file", len(changed), f"files are not those that were read: {examples(places, len(places))}",
            repair=f"to read them anew: reg scan {examples(places, len(places)).replace(', ', ' ')}",
        )  # fmt: skip


def _sorted(roots: dict[str, str]) -> tuple[dict[str, str], list[str], list[str]]:
    """Places that are there, those that are gone, and those of which not even the folder above is there."""
    there, gone, hidden = {}, [], []
    for uri, root in roots.items():
        if os.path.lexists(root):
            there[uri] = root
        elif os.path.isdir(os.path.dirname(root)):  # noqa: PTH112, PTH120 - unlike Path, never raises
            gone.append(uri)
        else:
            hidden.append(uri)
    return there, gone, hidden


def _changed(reader: Reader, roots: dict[str, str]) -> set[str]:
    """Places with a file of another size or time than it had, or without it."""
    found: set[str] = set()
    rows = reader.rows(
        "select f.uri, f.path, f.size_bytes, f.mtime_ns, f.inode from store.file f "
        "left join store.address a using (uri) where a.source in ('local', 'hf-cache') or a.uri is null order by all"
    )
    for row in rows:
        root = roots.get(row["uri"])
        if root is None or row["uri"] in found or not row["inode"]:
            continue
        folder = root if os.path.isdir(root) else os.path.dirname(root)  # noqa: PTH112, PTH120 - a hundred thousand times
        try:
            status = os.stat(os.path.join(folder, row["path"]))  # noqa: PTH116, PTH118
            same = (status.st_size, status.st_mtime_ns) == (row["size_bytes"], row["mtime_ns"])
        except (OSError, ValueError):
            same = "\\" in row["path"]  # a name that is no text was written with escapes
        if not same:
            found.add(row["uri"])
    return found


def check_leftovers(catalog: Path) -> Iterator[Finding]:
    """What scans, imports and the like left beside a catalog's file when they were killed."""
    left = [
        path
        for path in sorted(catalog.parent.glob(f"{PREFIX}*"))
        if path.is_dir() and not _is_locked(path)
    ]
    if left:
        yield Finding(
            "leftovers", str(catalog.parent), len(left), f"work that was stopped left {examples([path.name for path in left], len(left))}",
            repair="removed; nothing of it can be gone on with", can_repair=True,
            removes=tuple(map(str, left)),
        )  # fmt: skip


def check_outputs(reader: Reader) -> Iterator[Finding]:
    """Unfinished results of merges beside the outputs that the catalog knows."""
    rows = reader.rows("select distinct output from store.run order by output")
    outputs: dict[Path, list[str]] = defaultdict(list)
    for row in rows:
        outputs[Path(row["output"]).parent].append(Path(row["output"]).name)
    resumable: list[Path] = []
    useless: list[Path] = []
    for folder, names in outputs.items():
        with suppress(OSError):
            for path in sorted(folder.glob(f".*{UNFINISHED}")):
                name = path.name.removeprefix(".").removesuffix(UNFINISHED).rpartition(".")[0]
                if (
                    name in names
                    and path.is_dir()
                    and not path.is_symlink()
                    and not _is_locked(path)
                ):
                    has_journal = (path / JOURNAL).is_file()
                    (resumable if has_journal else useless).append(path)
    if resumable:
        yield Finding(
            "resumable", str(resumable[0].parent), len(resumable), f"merges that were stopped: {examples(resumable, len(resumable))}",
            repair="left; the same reg merge goes on with them, or remove the folders", is_damage=False,
        )  # fmt: skip
    if useless:
        yield Finding(
            "unfinished", str(useless[0].parent), len(useless), f"outputs that nothing can go on with: {examples(useless, len(useless))}",
            repair="removed", can_repair=True, removes=tuple(map(str, useless)),
        )  # fmt: skip


def remove(paths: Sequence[str]) -> None:
    """Remove files and folders, as far as the system lets us; links are not followed."""
    for text in paths:
        path = Path(text)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _is_locked(folder: Path) -> bool:
    """Tell whether a process is at work in a folder, which it locks."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return True  # whoever may not look at it leaves it alone
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False

"""The doctor: what is wrong with a catalog and around it, and its repair.

First the file: whether it opens, whether all of it can be read, whether its tables and views are those that migrations
make. Then its rows, and the places and files they speak of. A repair never takes what it cannot give back: before
rows are removed, or when a new file takes the place of the old one, the old one is kept beside it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from registry.catalog import Catalog
from registry.contents import check_contents, without_row
from registry.database import Database, Reader
from registry.entry import forget
from registry.errors import CatalogDamaged, CatalogLocked, CatalogMissing
from registry.finding import Finding, in_order
from registry.indexes import broken_indexes
from registry.integrity import check_rows
from registry.leftovers import check_leftovers, check_outputs, check_places, remove
from registry.migration import version_of
from registry.resolve import mark_unresolved, resolve_claims
from registry.resources import migrations
from registry.salvage import (
    MAGIC,
    WAL,
    Loss,
    copied,
    keep_copy,
    source_of,
    take_place,
    unreadable_tables,
)
from registry.scratch import scratch
from registry.structure import Structure, compare

_ROUNDS = 3
"""How often is mended what mending brings to light."""

_START_AGAIN = "reg scan FOLDER makes a new one, from the folders where the models are"


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor found, and did.

    Attributes:
        catalog: the file.
        version: of its schema; None where it cannot be told.
        findings: damage first.
        kept: what was put beside the catalog before it was changed; None: nothing.
    """

    catalog: Path
    version: int | None
    findings: tuple[Finding, ...]
    kept: Path | None = None

    @property
    def ok(self) -> bool:
        """Whether no damage remains."""
        return not any(finding.remains for finding in self.findings)


def examine(catalog: Catalog, *, repair: bool = False) -> Diagnosis:
    """Look at a catalog and what is around it; with ``repair``, mend what can be mended.

    Raises:
        CatalogMissing: there is none.
        CatalogLocked: another process writes.
        NotEnoughDisk, CatalogDamaged: there is no room beside it to copy it, or nothing may be made there; it is as it was.
        CatalogTooNew: it was written by a newer Homolog; nothing is looked at or touched.
    """
    path = catalog.path
    if not path.exists():
        message = f"there is no catalog at {path}"
        raise CatalogMissing(message, hint="reg scan PATH makes one")
    patient = _Patient(catalog, repair=repair)
    patient.look_at_file()
    if patient.can_go_on:
        patient.look_at_rows()
    left = list(check_leftovers(path))
    if repair:
        remove([path for finding in left for path in finding.removes])
        left = [finding.repaired() for finding in left]
    findings = in_order([*patient.findings, *left])
    return Diagnosis(path, patient.version, tuple(findings), patient.kept)


class _Patient:
    """One catalog under examination.

    Attributes:
        version: of its schema, once it is known.
        findings: so far.
        kept: the copy that was made; None: none yet.
        can_go_on: whether its rows can be looked at.
    """

    def __init__(self, catalog: Catalog, *, repair: bool) -> None:
        self._path = catalog.path
        self._database = catalog.database
        self._repair = repair
        self.version: int | None = None
        self.findings: list[Finding] = []
        self.kept: Path | None = None
        self.can_go_on = False

    def look_at_file(self) -> None:
        """Whether it opens, can be read and has the right structure; if not, and it is asked for, make it anew."""
        if not self._path.is_dir() and self._path.stat().st_size == 0:
            self._empty()
            return
        try:
            with self._database.look() as reader:
                found = list(self._of_open(reader))
        except CatalogDamaged as error:
            found = [self._closed(error.message)]
        self.findings += found
        wrong = [finding for finding in found if finding.needs_rebuild]
        if not wrong:
            self.can_go_on = self.version is not None
            return
        self._make_anew(wrong)

    def _empty(self) -> None:
        """A file without a byte: nothing is to be found in it, and every command takes it for a new one."""
        finding = Finding(
            "empty", str(self._path), 1, "the file is empty", "what was in it, if anything was", f"made a catalog without models; {_START_AGAIN}",
            can_repair=True,
        )  # fmt: skip
        if self._repair:
            with self._database.write():
                pass
            finding = finding.repaired()
        self.findings.append(finding)

    def _of_open(self, reader: Reader) -> Iterator[Finding]:
        """What is wrong with a file that opens."""
        try:
            self.version = version_of(reader.connection, self._path)
        except CatalogDamaged as error:
            yield Finding("foreign", str(self._path), 1, error.message, repair=error.hint or "")
            return
        if self.version == 0:
            yield Finding("foreign", str(self._path), 1, "a DuckDB database without a table", repair="made a catalog", is_damage=False)  # fmt: skip
            self.version = None
            return
        wal = self._path.with_name(self._path.name + WAL)
        if wal.exists() and wal.stat().st_size:
            detail = f"{wal.stat().st_size:,} bytes wait in the write-ahead log; somebody was killed, or is at work"
            yield Finding("wal", str(wal), 1, detail, repair="taken in when the catalog is next written", is_damage=False)  # fmt: skip
        newest = migrations()[-1][0]
        if self.version < newest:
            detail = f"schema version {self.version}; today's is {newest}"
            yield Finding("older", str(self._path), 1, detail, repair="brought to today's", is_damage=False)  # fmt: skip
        with_views = self.version == newest
        found, expected = Structure.of(reader.connection), Structure.expected(self.version)
        wrong = [*_unreadable(reader), *compare(found, expected, with_views=with_views)]
        yield from wrong
        if not any(finding.needs_rebuild for finding in wrong):
            yield from broken_indexes(reader)

    def _closed(self, message: str) -> Finding:
        """What is wrong with a file that does not open."""
        if self._path.is_dir() or not self._path.is_file():
            return Finding("not_a_file", str(self._path), 1, message, repair="name another file in REG_CATALOG")  # fmt: skip
        with self._path.open("rb") as file:
            start = file.read(MAGIC.stop)
        if start[MAGIC] != b"DUCK":
            return Finding(
                "not_a_database", str(self._path), 1, "the file does not begin as a DuckDB database; it is left as it is",
                "what was in it, if it was a catalog", f"move it away, or name another file in REG_CATALOG; {_START_AGAIN}",
            )  # fmt: skip
        return Finding(
            "unreadable", str(self._path), 1, message, can_repair=True, needs_rebuild=True
        )

    def _make_anew(self, wrong: Sequence[Finding]) -> None:
        """Copy what can be read into a new file, which takes the old one's place if a repair is asked for."""
        before = self._state()
        with source_of(self._path) as source, scratch(self._path) as folder:
            new = folder / "new.duckdb"
            if source is None:
                lost = "all of it: no header leads to a table"
                self._tell(wrong, lost, f"nothing can be read; {_START_AGAIN}")
                if self._repair:
                    new.touch()
                    self.kept = self._replaced(new, before)
                    self._tell(wrong, lost, f"kept as {self.kept.name}; {_START_AGAIN}")
                return
            with Database(source.file).look() as reader:
                self.version = version_of(reader.connection, self._path)
            losses = copied(source.file, new, self.version, self._path)
            lost = _lost(losses, source.without)
            n_rows = sum(loss.kept for loss in losses)
            if not self._repair:
                told = f"{n_rows:,} rows can be copied into a new file; the old one is kept"
                self._tell(wrong, lost, told)
                return
            self.kept = self._replaced(new, before)
        told = f"{n_rows:,} rows were copied into a new file; the old one is {self.kept.name}"
        self._tell(wrong, lost, told, done=True)
        self.can_go_on = True

    def _replaced(self, new: Path, before: list[tuple[int, int, int]]) -> Path:
        """Put a new file in the place of one that is as it was; return where the old one is."""
        if self._state() != before:
            message = (
                f"catalog {self._path} was written while its rows were copied; it is left as it is"
            )
            raise CatalogLocked(message, hint="run it again when nobody else works")
        return take_place(new, self._path)

    def _state(self) -> list[tuple[int, int, int]]:
        """What differs once somebody has written: of the file, and of its write-ahead log if there is one."""
        files = (self._path, self._path.with_name(self._path.name + WAL))
        found = [file.stat() for file in files if file.exists()]
        return [(status.st_ino, status.st_size, status.st_mtime_ns) for status in found]

    def _tell(
        self, wrong: Sequence[Finding], lost: str, repair: str, *, done: bool = False
    ) -> None:
        """Say what became of findings that need a new file; what is lost is said once."""
        for i, finding in enumerate(wrong):
            at = next(
                j
                for j, f in enumerate(self.findings)
                if f.kind == finding.kind and f.where == finding.where
            )
            said = replace(self.findings[at], lost=lost if i == 0 else "", repair=repair)
            self.findings[at] = replace(said, is_repaired=done)

    def look_at_rows(self) -> None:
        """Whether rows and what they speak of are right; if not, and it is asked for, mend them."""
        found = self._of_rows()
        views = [f for f in self.findings if f.mends]
        self.findings += found
        if not self._repair:
            return
        todo = [f for f in (*views, *found) if f.can_repair]
        for _ in range(_ROUNDS):
            if not todo:
                break
            self._mend(todo)
            found = self._of_rows()
            told = {(f.kind, f.where) for f in self.findings}
            self.findings += [f for f in found if (f.kind, f.where) not in told]
            todo = [f for f in found if f.can_repair]
        still = {(f.kind, f.where): f for f in found}
        self.findings = [self._after(finding, still) for finding in self.findings]

    def _after(self, finding: Finding, still: dict[tuple[str, str], Finding]) -> Finding:
        """A finding after the repair: gone, or as it is now."""
        now = still.get((finding.kind, finding.where))
        if now is not None:
            return now
        is_of_rows = finding.can_repair and not finding.needs_rebuild
        return finding.repaired() if is_of_rows or finding.kind in ("wal", "older") else finding

    def _of_rows(self) -> list[Finding]:
        """What is wrong with the rows and what they speak of."""
        with Database(self._path).read() as reader:
            alive = without_row(reader)
            return [
                *check_contents(reader, alive), *check_rows(reader, alive), *check_places(reader), *check_outputs(reader),
            ]  # fmt: skip

    def _mend(self, todo: Sequence[Finding]) -> None:
        """Mend findings in one transaction, after a copy of the file was made."""
        if self.kept is None and any(finding.mends or finding.forgets for finding in todo):
            with self._database.look():  # nobody writes meanwhile
                self.kept = keep_copy(self._path)
        with Database(self._path).write() as transaction:
            for finding in todo:
                for sql, parameters in finding.mends:
                    transaction.execute(sql, parameters)
                forget(transaction, finding.forgets)
            mark_unresolved(transaction)
            resolve_claims(transaction)
        remove([path for finding in todo for path in finding.removes])


def _unreadable(reader: Reader) -> Iterator[Finding]:
    """Tables of which not every value can be read."""
    for table, message in unreadable_tables(reader.connection):
        detail = f"{table} cannot be read: {message}"
        yield Finding("unreadable_rows", table, 1, detail, can_repair=True, needs_rebuild=True)


def _lost(losses: Sequence[Loss], without: str) -> str:
    """What a new file lacks, in words."""
    said = [without] if without else []
    for loss in losses:
        if loss.lost:
            said.append(f"{loss.lost:,} rows of {loss.table}")
        if loss.refused:
            said.append(
                f"{loss.refused:,} rows of {loss.table} whose key another has, or that lack a value"
            )
        if loss.blank:
            said.append(
                f"some values of {', '.join(f'{loss.table}.{name}' for name in sorted(loss.blank))}"
            )
    return "; ".join(said)

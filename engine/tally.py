"""Tallies: units of work added up to finished tensors, digested as they are written and noted when they are finished."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from threading import Lock
from typing import Any, Generic, Protocol, Self, TypeVar

from engine.journal import Journal
from engine.writer import Writer
from registry.fingerprint import DigestAsItComes, digest_tensor, digest_tensors
from registry.progress import Progress


class Sum(Protocol):
    """What is counted of a unit: a frozen dataclass of numbers, and of such dataclasses, that can be added."""

    def __add__(self, other: Self) -> Self:
        """The count of both."""
        ...


C = TypeVar("C", bound=Sum)

WAITING_BYTES = 16 << 20
"""Of a tensor, what may have come before what must be digested first."""


class Tally(Generic[C]):
    """What is finished of a writer's tensors.

    Law: sums and digests do not depend on the order in which units are added, nor on what a journal had of them.

    Attributes:
        sums: what was counted of each finished tensor, by name: of its units, added in their order.
        digests: of finished tensors, by name.
    """

    def __init__(self, writer: Writer, journal: Journal | None, zero: C) -> None:
        """Begin to count.

        Args:
            writer: open; what is written by `write` is not read back, but for what an earlier run wrote, and what came
                in so wild an order that too much of it would have to wait.
            journal: of the writer's folder; None: nothing is noted.
            zero: the count of nothing.
        """
        self.sums: dict[str, C] = {}
        self.digests: dict[str, str] = {}
        self._refs = writer.refs
        self._writer = writer
        self._digesting: dict[str, DigestAsItComes] = {}
        self._journal = journal
        self._resumed = writer.resumed
        self._zero = zero
        self._units: dict[str, dict[int, C]] = {}
        self._left: dict[str, int] = {}
        self._lock = Lock()

    def resume(self, jobs: int, progress: Progress) -> int:
        """Take over what the journal lists where the bytes are still those it says; return how many tensors.

        Raises:
            TruncatedFile, Unreadable: a shard cannot be read back.
        """
        if self._journal is None:
            return 0
        listed = {
            name: (line.digest, found)
            for name, line in self._journal.finished.items()
            if self._resumed
            and name in self._refs
            and (found := record_of(self._zero, line.numbers))
        }
        refs = [self._refs[name] for name in listed]
        progress.start("check", sum(ref.n_bytes for ref in refs))
        for name, digest in digest_tensors(refs, jobs=jobs, progress=progress.advance).items():
            if digest == listed[name][0]:
                self.digests[name], self.sums[name] = listed[name]
        self._journal.keep(self.sums)
        return len(self.sums)

    def write(self, name: str, start: int, data: memoryview) -> None:
        """Write bytes of tensor ``name`` from its byte ``start`` on, and digest them; safe from any thread.

        Args:
            name: of the tensor.
            start: first byte.
            data: bytes, which nobody changes any more.

        Raises:
            NotEnoughDisk, RunFailed: as `Writer.write`.
        """
        self._writer.write(name, start, data)
        with self._lock:
            if name not in self._digesting:
                self._digesting[name] = DigestAsItComes(self._refs[name], WAITING_BYTES)
            digesting = self._digesting[name]
        digesting.take(start, data)

    def add(self, name: str, span: tuple[int, int], size: int, count: C) -> None:
        """Count a unit that is written; safe from any thread.

        Args:
            name: of the tensor.
            span: first element of the unit, and the one after its last.
            size: elements of the tensor; when its units cover them it is finished.
            count: of the unit.

        Raises:
            TruncatedFile, Unreadable: the tensor cannot be read back.
            NotEnoughDisk, RunFailed: the journal cannot be written.
        """
        with self._lock:
            units = self._units.setdefault(name, {})
            units[span[0]] = count
            self._left[name] = self._left.get(name, size) - (span[1] - span[0])
            if self._left[name]:
                return
            del self._units[name], self._left[name]
            digesting = self._digesting.pop(name, None)
        total = self._zero
        for start in sorted(units):
            total += units[start]
        digest = digesting.digest if digesting else None
        if digest is None:
            self._writer.land()
            digest = digest_tensor(self._refs[name])
        self.sums[name], self.digests[name] = total, digest
        if self._journal is not None:
            self._journal.note(name, digest, numbers_of(total))

    def total(self) -> C:
        """The count of all tensors, added in the order of their names."""
        total = self._zero
        for name in sorted(self.sums):
            total += self.sums[name]
        return total

    def all_digests(self, jobs: int) -> dict[str, str]:
        """The digests of all tensors, by name; those without an element had no unit."""
        empty = [ref for name, ref in self._refs.items() if name not in self.digests]
        return {**self.digests, **digest_tensors(empty, jobs=jobs)}


def numbers_of(record: Any, prefix: str = "") -> dict[str, float]:
    """The numbers of a count by name, those of an inner one as ``outer.inner``."""
    found: dict[str, float] = {}
    for field in fields(record):
        value, name = getattr(record, field.name), prefix + field.name
        found |= numbers_of(value, f"{name}.") if is_dataclass(value) else {name: value}
    return found


def record_of(like: C, numbers: Mapping[str, float]) -> C | None:
    """The count that `numbers_of` wrote; None where it did not write that of a count such as ``like``.

    Law: ``record_of(zero, numbers_of(count)) == count``, to the last bit.
    """
    kinds = {name: type(number) for name, number in numbers_of(like).items()}
    if {name: type(number) for name, number in numbers.items()} != kinds:
        return None
    found: C = _filled(like, numbers, "")
    return found


def _filled(like: Any, numbers: Mapping[str, float], prefix: str) -> Any:
    """A count like another, with these numbers."""
    values = {field.name: getattr(like, field.name) for field in fields(like)}
    changed = {
        name: _filled(value, numbers, f"{prefix}{name}.")
        if is_dataclass(value)
        else numbers[prefix + name]
        for name, value in values.items()
    }
    return replace(like, **changed)

"""Parents: models that are merged or compared, with their tensors brought to the same names.

An output head that is tied to the input embedding is stored by some models and not by others, even among children
of one base. Here all of a family are made alike: a head that is a mere copy is left out, and where one of them has
a head of its own the embedding stands for the heads of the tied others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from engine.source import Source
from registry.checkpoint import Checkpoint
from registry.errors import FileChanged, TruncatedFile, Unreadable
from registry.file_ref import FileRef, list_files
from registry.fingerprint import digest_tensors
from registry.header import TensorRef
from registry.tensor_name import EMBEDDING, HEAD

WORN = "+"
"""Stands between a model's id or name and those of an adapter that it wears."""

_S = TypeVar("_S", bound=Source)
_WEIGHTS = ("safetensors", "index")


@dataclass(frozen=True)
class Parent:
    """A model that takes part: what the catalog knows and where its files are.

    Attributes:
        id: model digest.
        name: what people call it.
        checkpoint: its files.
        digests: tensor name → digest; {} for a model of which only headers were read.
        made: tensor name → what is computed in place of the stored tensor, or beside those.
        adapters: that it wears, in the order in which they were put on.
        tokenizer: the folder of its tokenizer, where that is not its own.
        parents: of a model that is computed by a recipe while it is read, that recipe's models; else ().
        address: hf://org/name@commit, where it is known to lie on the Hub.
    """

    id: str
    name: str
    checkpoint: Checkpoint
    digests: Mapping[str, str]
    made: Mapping[str, Source] = field(default_factory=dict)
    adapters: tuple["Parent", ...] = ()
    tokenizer: Path | None = None
    parents: tuple["Parent", ...] = ()
    address: str | None = None

    @property
    def tensors(self) -> dict[str, Source]:
        """Its tensors by name: the stored ones, and in their place or beside them those that are computed.

        A head that is a mere copy of the embedding is left out.
        """
        stored: dict[str, Source] = {t.name: t for t in self.checkpoint.tensors}
        kept = {name: t for name, t in stored.items() if name not in self.copies}
        return {**kept, **self.made}

    @property
    def copies(self) -> tuple[str, ...]:
        """Names of stored heads that are mere copies of the embedding.

        A model has one id and one list of digests with and without such a copy: a head that the list lacks is one.
        """
        if not self.checkpoint.tied or not self.digests:
            return ()
        stored = {t.name: t for t in self.checkpoint.tensors}
        embedding = _embedding(stored)
        if embedding is None:
            return ()
        same = (None, self.digest(embedding))
        return tuple(name for name in _heads(stored) if self.digest(stored[name]) in same)

    @property
    def tokenizer_root(self) -> Path:
        """The folder of its tokenizer."""
        return self.tokenizer or self.checkpoint.root

    @property
    def read_from(self) -> tuple["Parent", ...]:
        """Every model whose files are read for this one, itself first where its own are."""
        own = () if self.parents else (self,)
        return own + tuple(each for p in (*self.adapters, *self.parents) for each in p.read_from)

    def digest(self, source: Source) -> str | None:
        """The digest of one of its tensors, where it is known; computed ones have none."""
        return self.digests.get(source.name) if isinstance(source, TensorRef) else None


@dataclass(frozen=True)
class Family:
    """The tensors of some parents under common names.

    Attributes:
        tables: name → tensor, one for each parent in their order.
        stand_ins: (parent, head, embedding): the embedding is in the parent's table under the head's name.
        n_dropped: heads that are mere copies of embeddings and were left out.
    """

    tables: tuple[dict[str, Source], ...]
    stand_ins: tuple[tuple[Parent, str, str], ...]
    n_dropped: int

    @property
    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted({name for table in self.tables for name in table})


def refuse_change(parents: Sequence[Parent]) -> None:
    """Refuse parents whose weights are not the files they were when the checkpoint was read.

    Who writes into a file can put its old time back, but not the time at which that was done. Where only the latter
    differs, as it does after a mere copy by a link or other permissions, the bytes are digested again.

    Raises:
        FileChanged: naming the first file that differs; what was computed from it belongs to no model.
    """
    for parent in [each for one in parents for each in one.read_from]:
        root = parent.checkpoint.root
        now = {f.path: f for f in list_files(root)}
        bare = parent.checkpoint.layout == "file"
        for file in parent.checkpoint.files:
            is_read = bare or file.format in _WEIGHTS
            if is_read and not _is_same(parent, file, now.get(file.path)):
                path = root if bare else root / file.path
                message = f"{path} of {parent.name} changed while it was read"
                raise FileChanged(message, hint=f"reg scan {root}, when nothing writes there")


def _is_same(parent: Parent, then: FileRef, now: FileRef | None) -> bool:
    """Whether a file holds what it held."""
    if now is None or (now.size_bytes, now.mtime_ns) != (then.size_bytes, then.mtime_ns):
        return False
    if (now.inode, now.ctime_ns) == (then.inode, then.ctime_ns) or then.format == "index":
        return True
    held = [t for t in parent.checkpoint.tensors if t.file.name == then.path]
    try:
        digests = digest_tensors(held)
    except (TruncatedFile, Unreadable):
        return False
    known, copies = parent.digests, set(parent.copies)  # of a copy no digest is kept
    return all(
        known.get(n) == d or (n in copies and d in known.values()) for n, d in digests.items()
    )


def family(parents: Sequence[Parent]) -> Family:
    """Bring the tensors of ``parents`` to common names."""
    tables = [parent.tensors for parent in parents]
    n_dropped = sum(len(parent.copies) for parent in parents)
    stand_ins = []
    for head in sorted({name for table in tables for name in _heads(table)}):
        for parent, table in zip(parents, tables, strict=True):
            embedding = _embedding(table)
            if head not in table and embedding is not None and parent.checkpoint.tied:
                table[head] = embedding
                stand_ins.append((parent, head, embedding.name))
    return Family(tuple(tables), tuple(stand_ins), n_dropped)


def _embedding(table: Mapping[str, _S]) -> _S | None:
    """The input embedding of a model, where it has one."""
    return next((ref for name, ref in table.items() if EMBEDDING.search(name)), None)


def _heads(table: Mapping[str, _S]) -> list[str]:
    """The names of a model's output heads."""
    return [name for name in table if HEAD.search(name)]

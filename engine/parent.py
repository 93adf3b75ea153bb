"""Parents: models that are merged or compared, with their tensors brought to the same names.

An output head that is tied to the input embedding is stored by some models and not by others, even among children
of one base. Here all of a family are made alike: a head that is a mere copy is left out, and where one of them has
a head of its own the embedding stands for the heads of the tied others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from registry.checkpoint import Checkpoint
from registry.errors import FileChanged
from registry.file_ref import list_files
from registry.header import TensorRef
from registry.tensor_name import EMBEDDING, HEAD

_WEIGHTS = ("safetensors", "index")


@dataclass(frozen=True)
class Parent:
    """A model that takes part: what the catalog knows and where its files are.

    Attributes:
        id: model digest.
        name: what people call it.
        checkpoint: its files.
        digests: tensor name → digest; {} for a model of which only headers were read.
    """

    id: str
    name: str
    checkpoint: Checkpoint
    digests: Mapping[str, str]

    def digest(self, ref: TensorRef) -> str | None:
        """The digest of one of its tensors, where it is known."""
        return self.digests.get(ref.name)


@dataclass(frozen=True)
class Family:
    """The tensors of some parents under common names.

    Attributes:
        tables: name → tensor, one for each parent in their order.
        stand_ins: (parent, head, embedding): the embedding is in the parent's table under the head's name.
        n_dropped: heads that are mere copies of embeddings and were left out.
    """

    tables: tuple[dict[str, TensorRef], ...]
    stand_ins: tuple[tuple[Parent, str, str], ...]
    n_dropped: int

    @property
    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted({name for table in self.tables for name in table})


def refuse_change(parents: Sequence[Parent]) -> None:
    """Refuse parents whose weights are not the files they were when the checkpoint was read.

    Raises:
        FileChanged: naming the first file that differs; what was computed from it belongs to no model.
    """
    for parent in parents:
        root = parent.checkpoint.root
        now = {f.path: (f.size_bytes, f.mtime_ns) for f in list_files(root)}
        bare = parent.checkpoint.layout == "file"
        for file in parent.checkpoint.files:
            same = now.get(file.path) == (file.size_bytes, file.mtime_ns)
            if not same and (bare or file.format in _WEIGHTS):
                path = root if bare else root / file.path
                message = f"{path} of {parent.name} changed while it was read"
                raise FileChanged(message, hint=f"reg scan {root}, when nothing writes there")


def family(parents: Sequence[Parent]) -> Family:
    """Bring the tensors of ``parents`` to common names."""
    tables: list[dict[str, TensorRef]] = [
        {t.name: t for t in p.checkpoint.tensors} for p in parents
    ]
    n_dropped = 0
    for parent, table in zip(parents, tables, strict=True):
        embedding = _embedding(table)
        for head in _heads(table):
            if _is_copy(parent, table[head], embedding):
                del table[head]
                n_dropped += 1
    stand_ins = []
    for head in sorted({name for table in tables for name in _heads(table)}):
        for parent, table in zip(parents, tables, strict=True):
            embedding = _embedding(table)
            if head not in table and embedding is not None and parent.checkpoint.tied:
                table[head] = embedding
                stand_ins.append((parent, head, embedding.name))
    return Family(tuple(tables), tuple(stand_ins), n_dropped)


def _embedding(table: Mapping[str, TensorRef]) -> TensorRef | None:
    """The input embedding of a model, where it has one."""
    return next((ref for name, ref in table.items() if EMBEDDING.search(name)), None)


def _heads(table: Mapping[str, TensorRef]) -> list[str]:
    """The names of a model's output heads."""
    return [name for name in table if HEAD.search(name)]


def _is_copy(parent: Parent, head: TensorRef, embedding: TensorRef | None) -> bool:
    """Tell whether a head is a mere copy of the embedding.

    A model has one id and one list of digests with and without such a copy: a head that the list lacks is one.
    """
    if embedding is None or not parent.checkpoint.tied or not parent.digests:
        return False
    return parent.digest(head) in (None, parent.digest(embedding))

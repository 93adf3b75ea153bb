"""Checkpoints of the Hub that nobody downloaded: their headers here, the bytes behind them there.

The files are staged as for a scan, so that their tensors have places in files on disk; those hold nothing, and whoever
wants bytes asks `Remote.part` for them. The commit in the address pins what they are.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from registry.catalog import Catalog
from registry.checkpoint import Checkpoint, read_checkpoint
from registry.errors import DamagedDownload, RegError, Unreadable
from registry.file_ref import Format, format_of
from registry.fingerprint import architecture_fingerprint
from registry.hub import Hub, HubFile, Listed
from registry.hub_stage import inside, said_there, stage
from registry.names import CACHE, HUB, Address, parse

BLOCK_BYTES = 8 << 20
"""Fetched by one request of a file that is read from its beginning to its end."""

_SMALL: tuple[Format, ...] = (
    "index", "config", "adapter_config", "generation_config", "tokenizer", "card", "sidecar", "recipe",
)  # fmt: skip
_CARRIED = (
    ".json",
    ".txt",
    ".jinja",
    ".model",
    ".spm",
    ".py",
)  # of a folder without a format of ours
_MOST_CARRIED_BYTES = 100_000_000
_WEIGHTS = ("safetensors", "index")
_DECISIVE = (*_WEIGHTS, "config", "adapter_config")


@dataclass(frozen=True)
class Place:
    """Where a model lies on the Hub, as the catalog knows it.

    Attributes:
        model: id.
        uri: of the address, with the commit in full.
        signature: digest of the model's tensor names and shapes.
        is_file: it is one file of the repository, not a folder.
        files: of the checkpoint; paths are those in the repository.
    """

    model: str
    uri: str
    signature: str
    is_file: bool
    files: tuple[HubFile, ...]

    @property
    def repository(self) -> Listed:
        """The repository at its commit."""
        address = parse(self.uri)
        return Listed(address.name, address.revision or "", address.name)

    @property
    def inside(self) -> str:
        """The folder or file of the repository; "" for its root."""
        return parse(self.uri).inside


@dataclass(frozen=True)
class Remote:
    """A checkpoint whose bytes are on the Hub.

    Attributes:
        hub: to ask.
        place: where it lies.
        checkpoint: its tensors, in staged files that hold their headers only.
        staged: file here → file there.
        header_bytes: that were fetched.
    """

    hub: Hub
    place: Place
    checkpoint: Checkpoint
    staged: dict[Path, HubFile]
    header_bytes: int

    def blocks(self, file: Path, pool: Executor, ahead: int) -> Iterator[bytes]:
        """All bytes of a staged file in order, in blocks of `BLOCK_BYTES`, of which ``ahead`` are fetched in advance."""
        size = self.staged[file].size_bytes
        starts = iter(range(0, size, BLOCK_BYTES))

        def fetch(start: int) -> Future[bytes]:
            return pool.submit(self.part, file, start, min(size, start + BLOCK_BYTES))

        waiting = deque(fetch(start) for start in islice(starts, ahead + 1))
        while waiting:
            block = waiting.popleft().result()
            waiting.extend(fetch(start) for start in islice(starts, 1))
            yield block

    def part(self, file: Path, start: int, stop: int) -> bytes:
        """The bytes [start, stop) of a staged file; errors as `Hub.part`."""
        return self.hub.part(self.place.repository, self.staged[file], start, stop)


def meant(catalog: Catalog, address: Address, models: Sequence[str]) -> list[str]:
    """Those of the models of a repository that lie where its address says, in its root if it says no more; all if none does.

    A repository may hold GGUF or earlier checkpoints beside its model.
    """
    rows = catalog.rows(
        "select uri, model_id from store.address where starts_with(uri, ?) "
        "and model_id in (select store.each(?))",
        [f"{HUB}{address.name}@", list(models)],
    )
    there = {row["model_id"] for row in rows if parse(row["uri"]).inside == address.inside}
    return [model for model in models if model in there] or list(models)


def places(catalog: Catalog, models: Sequence[str], *, prefer: str = "") -> dict[str, Place]:
    """Where models lie on the Hub: id → place, of those that lie there.

    Args:
        catalog: knows the models.
        models: ids.
        prefer: how the address begins that is meant where there are several; else it is the first of them.
    """
    rows = catalog.rows(
        "select a.model_id, a.uri, a.layout, m.signature, f.path, f.size_bytes, f.etag, f.xet "
        "from store.address a join store.model m on m.id = a.model_id join store.file f using (uri) "
        "where a.source = 'hub' and a.model_id in (select store.each(?)) "
        "order by not starts_with(a.uri, ?), a.uri, f.path",
        [list(models), prefer],
    )
    first: dict[str, str] = {}
    files: dict[str, list[HubFile]] = defaultdict(list)
    known = {}
    for row in rows:
        uri, is_file = row["uri"], row["layout"] == "file"
        if first.setdefault(row["model_id"], uri) != uri:
            continue
        inside = parse(uri).inside
        path = inside if is_file else f"{inside}/{row['path']}" if inside else row["path"]
        files[uri].append(HubFile(path, row["size_bytes"], row["etag"] or "", row["xet"]))
        known[uri] = (row["model_id"], row["signature"], is_file)
    return {
        model: Place(model, uri, signature, is_file, tuple(files[uri]))
        for uri, (model, signature, is_file) in known.items()
    }


def is_small(file: HubFile) -> bool:
    """Whether a file that holds no weights may be read, or be carried over into what is made of the model."""
    kind = format_of(file.path)
    is_carried = file.size_bytes <= _MOST_CARRIED_BYTES and file.path.endswith(_CARRIED)
    return kind in _SMALL or (kind == "other" and is_carried)


@contextmanager
def opened(
    hub: Hub, place: Place, *, with_config: bool = False, with_small: bool = False
) -> Iterator[Remote]:
    """Fetch the headers of a checkpoint; its files are gone when the block ends.

    Args:
        hub: to ask.
        place: where it lies.
        with_config: also its configs, which decide more than where tensors are.
        with_small: also every other small file that may be read or carried over.

    Raises:
        DamagedDownload: its tensors are not those that were scanned.
        Unreadable: it is GGUF.
        CorruptCheckpoint, HubMissing, HubRefused, HubBusy, RequestsSpent: as `stage` and `read_checkpoint`.
    """
    if place.is_file and format_of(place.inside) == "gguf":
        message = f"{place.uri}: is GGUF, of which no weights are read on the Hub"
        raise Unreadable(
            message, hint=f"hf download {place.repository.name}, then reg scan {CACHE}"
        )
    wanted = _DECISIVE if with_config or with_small else _WEIGHTS
    files = [file for file in place.files if format_of(file.path) in _DECISIVE]
    others = [file for file in place.files if with_small and file not in files and is_small(file)]
    unread = [file.path for file in files if format_of(file.path) not in wanted]
    with TemporaryDirectory(prefix="homolog-") as folder:
        root = Path(folder).resolve()
        n_bytes = stage(hub, place.repository, files, root, without=unread)
        for file in others:
            content = hub.read(place.repository, file)
            inside(place.repository, root, file.path).write_bytes(content)
            n_bytes += len(content)
        try:
            checkpoint = read_checkpoint(root / place.inside)
        except RegError as error:
            message = said_there(error.message, root, place.repository)
            raise type(error)(message, hint=error.hint) from error
        if architecture_fingerprint(checkpoint.tensors) != place.signature:
            message = f"{place.uri}: its tensors are not those that were scanned"
            raise DamagedDownload(message, hint=f"reg scan {HUB}{place.repository.name} later")
        staged = {root / file.path: file for file in files}
        yield Remote(hub, place, checkpoint, staged, n_bytes)

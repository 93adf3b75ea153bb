"""Streams: models of the Hub that are merged without being downloaded, through a window of bounded size.

Their headers and small files are staged in a folder; what a reader wants of their tensors is fetched in blocks, of which the
last used are kept. A model that is not known by its content is read once before, so that the result, its name, its masks
and its recipe are those that its files would give.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock

from engine.merge import merge
from engine.options import Options
from engine.parent import WORN
from engine.reader import elsewhere
from engine.recipe import Recipe
from engine.run_record import Merged
from registry.catalog import Catalog
from registry.errors import BadAddress, FileChanged, Offline
from registry.hub import Hub
from registry.hub_digests import digest_remote
from registry.hub_requests import Requests, is_offline
from registry.names import HUB, parse
from registry.progress import SILENT, Progress
from registry.remote import Remote, meant, opened, places
from registry.scan import scan

BLOCK_BYTES = 4 << 20
"""Fetched by one request."""

_SHARE = 2  # of the memory of a merge, one part in so many is the window: methods look at a tensor more than once


class Window:
    """The blocks of files on the Hub that were used last; safe to use from several threads.

    Attributes:
        most_bytes: that are held, in whole blocks; at least one.
        held_bytes: held now.
        peak_bytes: held at any moment so far.
        n_fetched: blocks that were fetched.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = max(most_bytes, BLOCK_BYTES)
        self.held_bytes = self.peak_bytes = self.n_fetched = 0
        self._remotes: dict[Path, Remote] = {}
        self._blocks: OrderedDict[tuple[Path, int], Future[bytes]] = OrderedDict()
        self._lock = Lock()

    def add(self, remote: Remote) -> None:
        """Let the files of a checkpoint be read through this window."""
        self._remotes |= dict.fromkeys(remote.staged, remote)

    @property
    def files(self) -> list[Path]:
        """All that are read through it."""
        return list(self._remotes)

    def fill(self, view: memoryview, file: Path, start: int) -> None:
        """Read bytes of a file from ``start`` on, as many as ``view`` has; errors as `registry.hub.Hub.part`."""
        done = 0
        while done < len(view):
            number, within = divmod(start + done, BLOCK_BYTES)
            part = memoryview(self._block(file, number))[within : within + len(view) - done]
            view[done : done + len(part)] = part
            done += len(part)

    def _block(self, file: Path, number: int) -> bytes:
        """One block: from the window, or from the Hub, where only one thread asks for it."""
        key, size = (file, number), self._remotes[file].staged[file].size_bytes
        first, last = number * BLOCK_BYTES, min(size, (number + 1) * BLOCK_BYTES)
        with self._lock:
            found = self._blocks.get(key)
            mine = found is None
            if found is None:
                found = self._blocks[key] = Future()
                self.held_bytes += last - first
                self._shrink()
                self.peak_bytes, self.n_fetched = max(self.peak_bytes, self.held_bytes), self.n_fetched + 1  # fmt: skip
            self._blocks.move_to_end(key)
        if mine:
            try:
                found.set_result(self._remotes[file].part(file, first, last))
            except BaseException as error:
                found.set_exception(error)
                with self._lock:
                    if self._blocks.pop(key, None) is found:
                        self.held_bytes -= last - first
                raise
        return found.result()

    def _shrink(self) -> None:
        """Let go of blocks that were not used for the longest time."""
        while self.held_bytes > self.most_bytes and len(self._blocks) > 1:
            (file, number), _ = self._blocks.popitem(last=False)
            size = self._remotes[file].staged[file].size_bytes
            self.held_bytes -= min(size, (number + 1) * BLOCK_BYTES) - number * BLOCK_BYTES


def merge_streamed(
    catalog: Catalog, recipe: Recipe, output: Path, *, options: Options | None = None,
    progress: Progress = SILENT, told: Callable[[str], None] | None = None,
) -> Merged:  # fmt: skip
    """Merge as `engine.merge.merge` does, and download none of the models that the recipe names on the Hub.

    The bytes are those that a merge of downloaded files gives. Arguments and errors as there; and as `streamed`.
    """
    options = options or Options()
    window = options.memory_bytes // _SHARE
    left = replace(options, memory_bytes=options.memory_bytes - window)
    with streamed(catalog, recipe, window, progress=progress):
        return merge(catalog, recipe, output, options=left, progress=progress, told=told)


@contextmanager
def streamed(
    catalog: Catalog, recipe: Recipe, most_bytes: int, *, progress: Progress = SILENT
) -> Iterator[Window]:
    """Let the recipe's models of the Hub be read from there, as if they were here, until the block ends.

    Args:
        catalog: where they become known by their content.
        recipe: whose texts hf://… name them.
        most_bytes: that are held of their tensors.
        progress: told of every byte digested.

    Raises:
        Offline: HF_HUB_OFFLINE is set.
        BadAddress: an address means more than one model.
        CorruptCheckpoint, SourceError: as `registry.scan.scan` and `registry.remote.opened`.
    """
    window = Window(most_bytes)
    texts = [text for text in _texts(recipe) if text.startswith(HUB)]
    if texts and is_offline():
        message = f"{texts[0]}: HF_HUB_OFFLINE is set, and nothing can be streamed"
        raise Offline(message, hint="leave out --stream: what is in the cache is used")
    with ExitStack() as stack:
        for model, text in _known(catalog, texts, progress).items():
            if _is_here(catalog, model):
                continue
            prefer = HUB + text.removeprefix(HUB).partition("@")[0] + "@"
            requests = stack.enter_context(Requests())
            place = places(catalog, [model], prefer=prefer)[model]
            remote = stack.enter_context(opened(Hub(requests), place, with_small=True))
            window.add(remote)
            catalog.staged[model] = remote.checkpoint
            stack.callback(catalog.staged.pop, model, None)
        stack.enter_context(elsewhere(window.files, window.fill))
        yield window


def _texts(recipe: Recipe) -> list[str]:
    """What a recipe and those before it call models, adapters that are worn apart."""
    said = [recipe.base, *(part.model for part in recipe.models), *(p.statistics for p in recipe.models)]  # fmt: skip
    found = [part for text in said if text for part in text.split(WORN)]
    for stage in recipe.stages.values():
        found += _texts(stage)
    return list(dict.fromkeys(found))


def _known(catalog: Catalog, texts: Sequence[str], progress: Progress) -> dict[str, str]:
    """The models that addresses of the Hub mean, by their content: id → address."""
    found = {}
    for text in texts:
        models = list(dict.fromkeys(m.id for m in scan(catalog, [text]).models))
        models = meant(catalog, parse(text), models)
        if len(models) != 1:
            message = f"{text}: holds {len(models)} checkpoints that can be used; one is needed"
            raise BadAddress(message, hint=f"reg scan {text}")
        if not _is_here(catalog, models[0]):
            done = digest_remote(catalog, models, progress=progress)
            if done.problems:
                raise BadAddress(done.problems[models[0]], hint="run the same command again")
            models = [done.models.get(models[0], models[0])]
        found[models[0]] = text
    return found


def _is_here(catalog: Catalog, model: str) -> bool:
    """Whether the files of a model are on this machine."""
    try:
        catalog.checkpoint(model)
    except (BadAddress, FileChanged):
        return False
    return True

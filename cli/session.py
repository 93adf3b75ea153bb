"""What every command is given: the catalog and the voice, as the options of every command chose them."""

import os
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import homolog
from cli.block import Unit
from cli.output import Json, Output, Quiet
from registry.names import is_alias, is_there
from registry.progress import Progress

if TYPE_CHECKING:
    from registry.catalog import Catalog

Voice = Literal["human", "json", "quiet"]


class Session:
    """One call of `reg`.

    Attributes:
        path: of the catalog; None: where `registry.catalog.default_path` says.
        voice: who is spoken to; may change until the first word is said.
        words: that were typed after `reg`.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self.voice: Voice = "human"
        self.words: tuple[str, ...] = ()

    @cached_property
    def catalog(self) -> "Catalog":
        """The catalog; its file need not exist yet."""
        return homolog.Catalog(self.path)

    @cached_property
    def out(self) -> Output:
        """The voice."""
        if self.voice == "json":
            return Json()
        if self.voice == "quiet":
            return Quiet()
        from cli.human import Human  # noqa: PLC0415 - rich and the catalog, not for programs

        return Human()

    def progress(self, unit: Unit = "bytes") -> AbstractContextManager[Progress]:
        """Show how far the work of a block is."""
        return self.out.progress(unit)

    def model(self, text: str, *, fetch: bool = False) -> str:
        """The id of the model that ``text`` names; one on disk that the catalog does not know is scanned first.

        Args:
            text: as typed.
            fetch: its files are needed: an address of the Hub is downloaded.

        Raises:
            UnknownModel: with the nearest name.
            CorruptCheckpoint: what is on disk cannot be used.
        """
        if is_alias(text):
            return self.catalog.find(text)
        is_remote = fetch and text.startswith("hf://")
        if not is_remote and not is_there(os.path.expanduser(text)):  # noqa: PTH111 - never raises
            return self.catalog.find(text)
        with self.progress() as progress:
            return homolog.ensure(self.catalog, text, progress=progress)

"""How long work tells how far it is, without knowing who listens."""

from typing import Protocol


class Progress(Protocol):
    """Listens to work measured in bytes."""

    def start(self, what: str, total_bytes: int) -> None:
        """Work named ``what`` begins; ``total_bytes`` are to be done."""
        ...

    def advance(self, n_bytes: int) -> None:
        """``n_bytes`` more are done; called from any thread."""
        ...


class Silent:
    """Progress that nobody watches."""

    def start(self, what: str, total_bytes: int) -> None:
        """Say nothing."""

    def advance(self, n_bytes: int) -> None:
        """Say nothing."""


SILENT = Silent()
"""The listener of those who do not care."""

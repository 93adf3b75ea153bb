"""Options: how a merge is carried out. They are no part of a recipe, and of no digest."""

from dataclasses import dataclass

import torch

from engine.device import device_of
from engine.run import MEMORY_BYTES
from engine.writer import SHARD_BYTES


@dataclass(frozen=True)
class Options:
    """How a run is carried out; none of it changes a tensor's bytes.

    Attributes:
        jobs: threads; None: one per core.
        memory_bytes: for tensors, at any moment.
        shard_bytes: largest shard of the output.
        allow_unrelated: merge although no common base is known.
        resume: refuse to begin anew. Without it too a run that was stopped is gone on with, where there is one.
        device: what merges where the method lets it: "cpu", "cuda" or "cuda:N". A run may be resumed with another one.

    Raises:
        UnknownDevice: this machine has no such device.
    """

    jobs: int | None = None
    memory_bytes: int = MEMORY_BYTES
    shard_bytes: int = SHARD_BYTES
    allow_unrelated: bool = False
    resume: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        device_of(self.device)

    @property
    def accelerator(self) -> torch.device | None:
        """The device, unless it is the processor."""
        return device_of(self.device)

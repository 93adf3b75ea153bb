"""Options: how a merge is carried out. They are no part of a recipe, and of no digest."""

from dataclasses import dataclass

import torch

from engine.device import device_of
from engine.plan import MEMORY_BYTES
from engine.writer import SHARD_BYTES
from registry.errors import BadParameter


@dataclass(frozen=True)
class Options:
    """How a run is carried out; none of it changes a tensor's bytes.

    Attributes:
        jobs: threads; None: one per core.
        memory_bytes: for tensors, at any moment.
        shard_bytes: largest shard of the output.
        allow_unrelated: merge although no common base is known.
        allow_license_conflict: why to merge although no licence satisfies all models; None: such a merge is refused.
        resume: refuse to begin anew. Without it too a run that was stopped is gone on with, where there is one.
        device: what merges where the method lets it: "cpu", "cuda" or "cuda:N". A run may be resumed with another one.

    Raises:
        UnknownDevice: this machine has no such device.
        BadParameter: a licence conflict is allowed without a reason.
    """

    jobs: int | None = None
    memory_bytes: int = MEMORY_BYTES
    shard_bytes: int = SHARD_BYTES
    allow_unrelated: bool = False
    allow_license_conflict: str | None = None
    resume: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        device_of(self.device)
        if self.allow_license_conflict is not None and not self.allow_license_conflict.strip():
            message = "allow_license_conflict is blank; it must say why the conflict is allowed"
            raise BadParameter(message)

    @property
    def accelerator(self) -> torch.device | None:
        """The device, unless it is the processor."""
        return device_of(self.device)

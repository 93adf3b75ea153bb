"""Memory that the machine must have for a plan, said before the first byte is read."""

import os

from engine.plan import Plan
from registry.errors import NotEnoughMemory


def machine_bytes() -> int:
    """Memory of this machine, bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def refuse_too_large(plan: Plan, memory_bytes: int) -> None:
    """Refuse a plan that has a unit of work which neither this machine nor what a run was given can hold.

    Args:
        plan: what is to be done.
        memory_bytes: for tensors; a unit that needs more than that, and no more than the machine has, is no error.

    Raises:
        NotEnoughMemory: naming the tensor and the bytes that it needs.
    """
    has = machine_bytes()
    said = plan.beyond(max(memory_bytes, has))
    if said is not None:
        message = f"{said}; this machine has {has:,}"
        raise NotEnoughMemory(
            message, hint="reg methods NAME says what a method works on; --memory SIZE insists"
        )

"""Accelerators: the arithmetic of a merge on a device that is not the processor, to the same bytes.

The processor reads, surveys, draws and writes. What is moved are the slices of steps whose method makes every entry
from the same entries of the models (`Method.anywhere`): they are copied as they are stored, turned into float32 and
freed of the base there, and merged by the torch twins of the kernels. The result comes back in float32; the base is
added, and it is rounded and compared, where that is always done.

All devices round sums, products and quotients of tensors alike, and agree on comparisons, absolute values, signs and
casts. They need not agree on a quotient by a number, which CUDA takes for a product with its inverse; on exp and its
like; on the order of a sum over entries; on the sign of the larger of 0 and -0; or on steps that are fused, such as
addcmul and lerp. A method that may run anywhere uses none of these; `tests/elsewhere.py` is a device that refuses them.
"""

import re
from dataclasses import replace
from typing import Any

import torch

from engine.arithmetic import applied
from engine.method import Seen
from engine.plan import Plan, TensorStep
from engine.slices import Slices
from registry.errors import NotEnoughMemory, UnknownDevice

_CUDA = re.compile(r"cuda(?::([0-9]{1,3}))?")
_HINT = "without --device the processor merges, to the same bytes"


def device_of(name: str) -> torch.device | None:
    """The accelerator of this name; None: the processor with its kernels.

    Args:
        name: "cpu", "cuda", which is the first one, or "cuda:N".

    Raises:
        UnknownDevice: this machine has none of this name, or it cannot be used.
    """
    if name == "cpu":
        return None
    asked = _CUDA.fullmatch(name)
    if asked is None:
        message = f"{name!r} is no device; it must be cpu, cuda or cuda:N"
        raise UnknownDevice(message, hint=_HINT)
    index, n = int(asked[1] or 0), torch.cuda.device_count()
    if index >= n:
        has = f"cuda:0 to cuda:{n - 1}" if n else "no CUDA device"
        message = f"device {name} is not there: torch {torch.__version__} finds {has}"
        raise UnknownDevice(message, hint=_HINT)
    device = torch.device("cuda", index)
    try:
        torch.zeros(1, device=device)
    except RuntimeError as error:
        message = f"device {name} cannot be used: {str(error).splitlines()[0]}"
        raise UnknownDevice(message, hint=_HINT) from error
    return device


def applied_on(
    device: torch.device, plan: Plan, step: TensorStep, inputs: Seen, whole: Any
) -> torch.Tensor:
    """`engine.arithmetic.applied` by a device: the result, float32, where the processor can read it.

    Law: the same bits as without a device.

    Args:
        device: does the arithmetic.
        plan: of which it is a step.
        step: one that is portable.
        inputs: slices of its tensors, as `engine.arithmetic.seen_slice` gives them.
        whole: what the method's survey found.

    Raises:
        NonFinite: NaN or infinity in a parent's tensor.
        NotEnoughMemory: the device is full.
    """
    try:
        result = applied(plan, step, _moved(inputs, device), whole)
        return torch.empty(result.shape, pin_memory=result.is_cuda).copy_(result)
    except torch.OutOfMemoryError as error:
        message = f"the memory of {device} is too small for what is merged at once, or in use: tensor {step.name}"
        raise NotEnoughMemory(message, hint="--jobs 1 takes least; --device cpu none") from error


def _moved(inputs: Seen, device: torch.device) -> Seen:
    """What a method gets, on a device; of a base whose shape alone is asked for, that."""
    models, base, draws = inputs.models, inputs.base, inputs.draws
    if not isinstance(models, Slices):
        message = f"tensor {inputs.tensor} is not in slices"
        raise TypeError(message)
    return replace(
        inputs,
        models=_task_vectors(models, device),
        base=base if base is None or base.is_meta else base.to(device),
        draws=None if draws is None else replace(draws, device=device),
    )


def _task_vectors(models: Slices, device: torch.device) -> list[torch.Tensor]:
    """Models, or what they have more than the base: (n, *shape) float32, nobody else's."""
    stored = models.stored if models.base is None else [*models.stored, models.base]
    floats = [_floats(part, device) for part in stored]
    finite = torch.stack([torch.isfinite(values).all() for values in floats]).cpu()
    for place, is_finite in enumerate(finite.tolist()):
        if not is_finite:
            models.refuse(place)
    if models.base is not None:
        base = floats.pop()
        for values in floats:
            values.sub_(base)
    return [values.reshape(models.shape) for values in floats]


def _floats(stored: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Entries as they are stored, copied to a device and turned into float32 there."""
    there = stored.to(device, non_blocking=True)
    return torch.empty(len(stored), device=device).copy_(there)

"""Measures the peak of anonymous memory of runs, in a process of its own; prints JSON. Run by `test_run.py`."""

import ctypes
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from engine import run
from engine.methods import all_methods
from engine.parent import Parent
from engine.pin import pin
from engine.plan import Plan
from engine.planner import make_plan
from engine.recipe import Part, Recipe
from engine.run import run_plan
from registry.checkpoint import read_checkpoint

MIB = 1 << 20


def status(key: str) -> int:
    """A number of /proc/self/status, in bytes."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * next(int(line.split()[1]) for line in text.splitlines() if line.startswith(key))


def peak(plan: Plan, folder: Path, **options: int) -> int:
    """How far a run raised the resident memory of this process, in bytes."""
    folder.mkdir()
    ctypes.CDLL(None).malloc_trim(0)  # what is free but kept would hide what a run takes
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak so far
    before = status("VmRSS")
    run_plan(plan, folder, metadata={}, **options)
    return status("VmHWM") - before


def parents(
    folder: Path, shape: tuple[int, ...], n_tensors: int, dtype: torch.dtype
) -> list[Parent]:
    """A base and two models of random tensors of one shape."""
    made = []
    for name in ("base", "one", "two"):
        target = folder / f"{name}-{'x'.join(map(str, shape))}"
        target.mkdir()
        state = {f"t{i}.weight": torch.randn(shape).to(dtype) for i in range(n_tensors)}
        save_file(state, target / "model.safetensors")
        del state
        made.append(Parent(target.name, target.name, read_checkpoint(target), {}))
    return made


SURVEYED = [
    ("arcee_fusion", {}), ("bitdelta", {"all_tensors": True}), ("bitdelta", {"all_tensors": True, "bits": 8}),
    ("breadcrumbs", {}), ("breadcrumbs", {"per": "row"}), ("dare_linear", {"rescale_by": "l1"}),
    ("della", {"rescale_by": "l1"}), ("model_stock", {"filter_wise": True}),
    ("prune_magnitude", {"per": "row"}), ("quantize_delta", {"per": "tensor"}),
]  # fmt: skip
"""Methods that look at a tensor before they merge its slices, with the parameters that ask most of them."""


def planned(
    method: str, models: list[Parent], parameters: dict[str, float | bool | str] | None = None
) -> Plan:
    """A plan with all defaults but these parameters."""
    declared = all_methods()[method]
    base, *others = models
    others = others[: declared.n_models[1]]
    recipe = Recipe(method, tuple(Part(m.id) for m in others), parameters=parameters or {})
    pinned = pin(recipe, base.id, [m.id for m in others])
    return make_plan(pinned, base if pinned.base else None, others)


def main(what: str, folder: Path) -> None:
    """Measure all methods that work on slices ("element"), those that survey a large tensor, or on whole tensors."""
    slices = what == "element"
    run.keep_memory = lambda: None  # of what earlier methods took
    names = [n for n, m in all_methods().items() if (m.scope == "element") is slices]
    found, budget = {}, 32 * MIB
    if slices:  # 75 MiB of weights
        models = parents(folder, (5 * MIB // 2,), 5, torch.bfloat16)
        run_plan(planned("linear", parents(folder, (9,), 1, torch.bfloat16)), folder, metadata={})
        for name in names:
            plan = planned(name, models)
            found[name] = peak(plan, folder / name, memory_bytes=budget, jobs=4), budget
    elif what == "surveyed":  # 25 MiB of float32 per model
        models = parents(folder, (800, 8192), 1, torch.bfloat16)
        for name, parameters in SURVEYED:
            plan = planned(name, models, parameters)
            case = " ".join([name, *map(str, parameters.values())])
            held = peak(plan, folder / case, memory_bytes=budget, jobs=1)
            found[case] = held, plan.peak_bytes(1, budget)
    else:
        for shape, dtype in (((1024, 768), torch.bfloat16), ((2 * MIB,), torch.float32)):
            models = parents(folder, shape, 1, dtype)
            for name in names:
                plan = planned(name, models)
                case = f"{name} {shape}"
                found[case] = peak(plan, folder / case, jobs=1), plan.peak_bytes(1)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

"""Weights that are no numbers, or none that can be merged."""

import math
from collections.abc import Callable
from pathlib import Path

import torch
from ggufs import save_gguf
from safetensors.torch import load_file, save_file
from torture.bad_input import Bad

KIND = "numbers in weights"

_NAME = "model.layers.0.mlp.up_proj.weight"


def _changed(change: Callable[[torch.Tensor], torch.Tensor | None]) -> Callable[[Path], object]:
    """A copy of `base` of which one tensor is otherwise, or missing."""

    def make(folder: Path) -> None:
        base = folder.parent / "models" / "base"
        tensors = load_file(base / "model.safetensors")
        changed = change(tensors.pop(_NAME).clone())
        if changed is not None:
            tensors[_NAME] = changed
        (folder / "bad").mkdir()
        save_file(tensors, folder / "bad" / "model.safetensors")
        (folder / "bad" / "config.json").write_bytes((base / "config.json").read_bytes())
        (folder / "bad" / "README.md").write_text("---\nbase_model: base\n---\n")

    return make


def _with(value: float, dtype: torch.dtype | None = None) -> Callable[[torch.Tensor], torch.Tensor]:
    """One entry has this value."""

    def change(tensor: torch.Tensor) -> torch.Tensor:
        changed = tensor if dtype is None else tensor.to(dtype)
        changed[3, 3] = value
        return changed

    return change


def _cast(dtype: torch.dtype) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda tensor: (100 * tensor).to(dtype)


def _gone(tensor: torch.Tensor) -> None:
    del tensor


_MERGE = ("merge", "--method", "ties", "./bad", "chat", "--base", "base", "-o", "out")
_CHANGES: dict[str, tuple[str, Callable[[torch.Tensor], torch.Tensor | None]]] = {
    "NaN": ("NonFinite", _with(math.nan)),
    "infinity": ("NonFinite", _with(math.inf)),
    "a number beyond float32": ("NonFinite", _with(1e300, torch.float64)),
    "all of a tensor −0": ("", lambda tensor: -0.0 * tensor.abs()),
    "subnormal numbers": ("", lambda tensor: torch.full_like(tensor, 1e-40)),
    "fp8, e4m3": ("UnsupportedDtype", _cast(torch.float8_e4m3fn)),
    "fp8, e5m2": ("UnsupportedDtype", _cast(torch.float8_e5m2)),
    "8-bit integers": ("UnsupportedDtype", _cast(torch.int8)),
    "64-bit integers": ("UnsupportedDtype", _cast(torch.int64)),
    "truth values": ("UnsupportedDtype", _cast(torch.bool)),
    "complex numbers": ("UnsupportedDtype", _cast(torch.complex64)),
    "another shape": ("ShapeMismatch", lambda tensor: tensor[:-1].contiguous()),
    "one dimension more": ("ShapeMismatch", lambda tensor: tensor[None]),
    "no entry at all": ("ShapeMismatch", lambda tensor: tensor[:0].contiguous()),
    "a tensor that is missing": ("MissingTensor", _gone),
}


def _big_endian(folder: Path) -> None:
    (folder / "bad").mkdir()
    for seed in (0, 1):
        save_gguf(folder / "bad" / f"{seed}.gguf", seed=seed, big_endian=True)


CASES = [
    *(Bad(KIND, what, error, _changed(change), _MERGE, int(bool(error))) for what, (error, change) in _CHANGES.items()),
    Bad(KIND, "big-endian GGUF", "UnsupportedDtype", _big_endian, ("plan", "--method", "linear", "--allow-unrelated", "bad/0.gguf", "bad/1.gguf")),
]  # fmt: skip

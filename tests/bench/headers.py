"""A tree of made-up checkpoints of which only the headers are there: names, shapes and holes of the right length.

What a scan without tensor bytes reads is what it would read of real ones: `config.json`, and the header of one safetensors
file of the layout of Llama with as many layers as it takes to have so many tensors.
"""

import json
import os
from pathlib import Path

WIDTHS = (256, 384, 512, 640, 768, 1024, 1536, 2048)
"""Hidden sizes, one after the other: as many kinds of checkpoint there are."""

LAYER = 9
"""Tensors of one layer; three stand outside of all layers."""


def shapes(n_tensors: int, width: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of at least four tensors, in the order of the file."""
    inner, rows = width * 3, 32_000
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (rows, width)}
    for index in range((n_tensors - 3) // LAYER):
        layer = f"model.layers.{index}"
        found[f"{layer}.input_layernorm.weight"] = (width,)
        found[f"{layer}.post_attention_layernorm.weight"] = (width,)
        for name in ("q_proj", "o_proj"):
            found[f"{layer}.self_attn.{name}.weight"] = (width, width)
        for name in ("k_proj", "v_proj"):
            found[f"{layer}.self_attn.{name}.weight"] = (width // 4, width)
        for name in ("gate_proj", "up_proj"):
            found[f"{layer}.mlp.{name}.weight"] = (inner, width)
        found[f"{layer}.mlp.down_proj.weight"] = (width, inner)
    found["model.norm.weight"] = (width,)
    found["lm_head.weight"] = (rows, width)
    return found


def header(n_tensors: int, width: int) -> tuple[bytes, int]:
    """The beginning of a file of bf16 tensors, and the length of the whole file in bytes."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes(n_tensors, width).items():
        begin, end = end, end + 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        entries[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, 8 + len(text) + end


def write(folder: Path, n_models: int, n_tensors: int) -> None:
    """Write the tree ``folder/000/model-000000 …``, a thousand to a folder."""
    made = {width: header(n_tensors, width) for width in WIDTHS}
    for index in range(n_models):
        width = WIDTHS[index % len(WIDTHS)]
        place = folder / f"{index // 1000:03d}" / f"model-{index:06d}"
        place.mkdir(parents=True)
        config = {"model_type": "llama", "hidden_size": width, "tie_word_embeddings": False}
        (place / "config.json").write_text(json.dumps(config), encoding="utf-8")
        start, length = made[width]
        with (place / "model.safetensors").open("wb") as file:
            file.write(start)
            os.truncate(file.fileno(), length)

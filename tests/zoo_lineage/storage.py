"""The zoo on disk: folders with names that say nothing, one or several files of safetensors, equal times."""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from zoo_lineage.family import DTYPES, Model
from zoo_lineage.network import config

_TIME_NS = 1_600_000_000 * 10**9

_META = (
    (r"^model\.embed_tokens\.", "tok_embeddings."),
    (r"^model\.norm\.", "norm."),
    (r"^lm_head\.", "output."),
    (r"^model\.layers\.", "layers."),
    (r"\.self_attn\.([qkvo])_proj\.", r".attention.w\1."),
    (r"\.mlp\.gate_proj\.", ".feed_forward.w1."),
    (r"\.mlp\.down_proj\.", ".feed_forward.w2."),
    (r"\.mlp\.up_proj\.", ".feed_forward.w3."),
    (r"\.input_layernorm\.", ".attention_norm."),
    (r"\.post_attention_layernorm\.", ".ffn_norm."),
)
"""A llama's tensors as its first release named them."""


def opaque(text: str) -> str:
    """A folder's name, whose order says nothing."""
    return f"m{hashlib.sha256(text.encode()).hexdigest()[:11]}"


def renamed(name: str, architecture: str) -> str:
    """Another name for a tensor: of the first release for a llama, else as a wrapped network has it."""
    if architecture != "llama":
        return f"module.{name}"
    for pattern, other in _META:
        name = re.sub(pattern, other, name)
    return name


def save(folder: Path, model: Model) -> None:
    """Write config.json and the weights; the file's tensors are in the order of their names."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    node, dtype = model.node, DTYPES[model.node.dtype]
    settings = config(model.shape)
    for key in ("transformers_version", "_name_or_path"):
        settings.pop(key, None)
    settings["dtype"] = str(dtype).removeprefix("torch.")
    _write_json(folder / "config.json", settings)
    name = (lambda n: renamed(n, model.shape.architecture)) if node.renamed else str
    tensors = {name(n): w.to(dtype).contiguous() for n, w in sorted(model.state.items())}
    if node.shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        _save_shards(folder, tensors, node.shards)


def _save_shards(folder: Path, tensors: dict[str, torch.Tensor], n_shards: int) -> None:
    weight_map: dict[str, str] = {}
    names = sorted(tensors)
    for i in range(n_shards):
        file = f"model-{i + 1:05}-of-{n_shards:05}.safetensors"
        mine = names[i * len(names) // n_shards : (i + 1) * len(names) // n_shards]
        save_file({n: tensors[n] for n in mine}, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(mine, file)
    total = sum(w.numel() * w.element_size() for w in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    _write_json(folder / "model.safetensors.index.json", index)


def write_card(folder: Path, base_models: list[str]) -> None:
    """A model card with a claim."""
    claims = "\n".join(f"  - {name}" for name in base_models)
    text = f"---\nlicense: apache-2.0\nbase_model:\n{claims}\n---\n# A model\n"
    (folder / "README.md").write_text(text, encoding="utf-8")


def _write_json(file: Path, value: object) -> None:
    file.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def set_times(root: Path) -> None:
    """Give all files and folders one time."""
    for path in sorted(root.rglob("*"), reverse=True):
        os.utime(path, ns=(_TIME_NS, _TIME_NS))
    os.utime(root, ns=(_TIME_NS, _TIME_NS))

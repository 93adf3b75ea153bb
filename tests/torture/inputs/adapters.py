"""Adapters: their config and the names, shapes and dtypes of their tensors."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torture.chance import Chance
from torture.court import Court
from torture.ground import Ground
from torture.neighbourhood import damaged_few

WHAT = "adapters"

_MORE = {
    "target_modules": ["q_proj", "v_proj"], "rank_pattern": {"q_proj": 4}, "alpha_pattern": {".*q_proj": 8}, "modules_to_save": ["lm_head"],
    "use_rslora": True, "use_dora": True, "layers_to_transform": [0], "layers_pattern": "layers", "init_lora_weights": "pissa",
    "peft_type": "LOHA", "trainable_token_indices": {"embed_tokens": [1, 2]}, "exclude_modules": None, "lora_bias": True,
    "inference_mode": True, "revision": None, "task_type": "CAUSAL_LM", "fan_in_fan_out": True, "bias": "all",
}  # fmt: skip
_WORDS = (*_MORE, "r", "lora_alpha", "base_model_name_or_path", "base", "chat", "LORA", "all-linear", "none")  # fmt: skip
_NAMES = ("base_model.model.", "model.layers.0.", "model.layers.9.", "self_attn.q_proj", "mlp.up_proj", "lm_head", "model.embed_tokens",
    ".lora_A.weight", ".lora_B.weight", ".lora_A.default.weight", ".lora_magnitude_vector", ".lora_embedding_A", ".weight", ".bias",
    ".modules_to_save.default.weight", ".token_adapter.trainable_tokens_delta", ".lora_B.bias")  # fmt: skip
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.int8, torch.bool, torch.complex64, torch.float64)  # fmt: skip


def attempt(chance: Chance, court: Court, ground: Ground) -> None:
    """Put one adapter on a model, or several together; now and then scan a few."""
    ground.clear()
    if chance.now_and_then(0.2):
        damaged_few(court, ground, chance, "adapter", _damage)
        return
    _damage(chance, ground.copy("adapter"))
    ground.catalog()
    words = chance.one((
        ("plan", "--method", "passthrough", "base+./adapter"),
        ("merge", "--method", "passthrough", "base+./adapter", "-o", "out"),
        ("plan", "--method", "linear", "base+./adapter", "chat", "--base", "base", "--json"),
        ("merge", "--method", "linear", "./adapter", str(ground.models / "adapter"), "-o", "out"),
        ("merge", "--method", "ties", "base+./adapter", "chat+./adapter", "--base", "base", "-o", "out"),
        ("stats", "./adapter", "--base", "base"),
        ("mergeable", "./adapter", str(ground.models / "adapter")),
        ("show", "./adapter"),
    ))  # fmt: skip
    ended = court.types(*words)
    if ended.code != 0 and Path("out").exists():
        court.half_models.append(f"{' '.join(words)} left {sorted(Path('out').rglob('*'))}")


def _damage(chance: Chance, folder: Path) -> None:
    """Change config, tensors or both."""
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text())
    for key in chance.sample(sorted(_MORE), chance.randrange(3)):
        config[key] = _MORE[key]
    if chance.now_and_then(0.7):
        config = chance.damaged(config, vocabulary=_WORDS)
    file.write_bytes(chance.json(config))
    if chance.now_and_then(0.5):
        weights = folder / "adapter_model.safetensors"
        tensors = load_file(weights)
        for _ in range(chance.randrange(1, 3)):
            _damage_one(chance, tensors)
        save_file(tensors, weights, metadata={"format": "pt"})


def _damage_one(chance: Chance, tensors: dict[str, torch.Tensor]) -> None:
    """Rename, change, drop or add one tensor; at least one is left."""
    name = chance.one(sorted(tensors))
    other = "".join(chance.one(_NAMES) for _ in range(3))
    match chance.randrange(6):
        case 0:
            tensors[other] = tensors.pop(name)
        case 1:
            tensors[name] = tensors[name].to(chance.one(_DTYPES))
        case 2:
            shape = [chance.one((0, 1, 2, 3, 16, 24)) for _ in range(chance.randrange(5))]
            tensors[name] = torch.ones(shape)
        case 3:
            factor = chance.one((0.0, float("nan"), float("inf"), -1.0, 1e30))
            tensors[name] = tensors[name] * factor
        case 4 if len(tensors) > 1:
            del tensors[name]
        case _:
            tensors[other] = torch.ones(2, 16)

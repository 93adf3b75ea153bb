"""Configs: `config.json` of the output, as the plan decided."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from engine.plan import Plan
from engine.reader import FLOATS
from engine.recipe import DTYPES

_SPELLED = {code: name for name, code in DTYPES.items()}
_DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")


def effective_config(plan: Plan) -> dict[str, Any]:
    """The config of the output: the reference's, as the plan decided, without its place.

    Dtype, tying, number of layers and of tokens follow the plan; lists with an entry per layer follow the layers.
    """
    config = _adapted(plan.reference.checkpoint.config, plan)
    if plan.tie is not None:
        config["tie_word_embeddings"] = plan.tie
    inner = config.get("text_config")
    if isinstance(inner, dict):
        config["text_config"] = _adapted(inner, plan)
        if plan.tie is not None and "tie_word_embeddings" in inner:
            config["text_config"]["tie_word_embeddings"] = plan.tie
    return config


def _adapted(config: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """A config whose dtype is the one most weights have, as far as it names one."""
    adapted = {key: value for key, value in config.items() if key != "_name_or_path"}
    if plan.layers is not None:
        adapted = _restacked(adapted, plan.layers)
    if plan.vocabulary:
        adapted |= {k: v for k, v in plan.vocabulary.config.items() if k in adapted}
    n_bytes: Counter[str] = Counter()
    for step in plan.steps:
        n_bytes[step.dtype] += step.write_bytes
    known = [dtype for dtype in FLOATS if n_bytes[dtype]]
    for key in ("torch_dtype", "dtype"):
        if known and key in adapted:
            adapted[key] = _SPELLED[max(known, key=lambda dtype: n_bytes[dtype])]
    return adapted


def _restacked(config: Mapping[str, Any], layers: tuple[int, ...]) -> dict[str, Any]:
    """A config for layers taken from those numbered ``layers``."""
    before = next((config[key] for key in _DEPTHS if isinstance(config.get(key), int)), None)
    restacked = dict(config)
    for key, value in config.items():
        if key in _DEPTHS and value == before:
            restacked[key] = len(layers)
        elif isinstance(value, list) and len(value) == before and max(layers) < len(value):
            restacked[key] = [value[layer] for layer in layers]
    return restacked

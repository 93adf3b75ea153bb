"""LoRA adapters as PEFT stores them: which low-rank factors belong to which module, and with what scale.

An adapter is read from its files alone, without the model it belongs to. Everything in it has a meaning here or is
refused: an adapter that is understood by half gives a model that nobody trained.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from engine.parent import Parent
from engine.reader import FLOATS
from registry.errors import NotMergeable, ShapeMismatch, UnsupportedDtype
from registry.header import TensorRef
from registry.tensor_name import EMBEDDING, HEAD

PREFIX = "base_model.model."
"""Stands before the name of every module in an adapter's files."""

ROWS = "token_adapter.trainable_tokens_delta"
"""What the rows of single tokens are called under their embedding."""

_PARTS = {
    "lora_A.weight": "a",
    "lora_B.weight": "b",
    "lora_embedding_A": "a",
    "lora_embedding_B": "b",
    "lora_B.bias": "bias",
    "lora_magnitude_vector": "magnitude",
    "lora_magnitude_vector.weight": "magnitude",
    "base_layer.weight": "weight",
}
"""What may stand behind a module's name, and the field of `Factors` it fills."""

_PART = re.compile(rf"(.+)\.({'|'.join(map(re.escape, _PARTS))})")

_COPIES = (
    re.compile(r"\.(?:modules_to_save|original_module)(?=\.)"),
    re.compile(r"\.modules_to_save\.[^.]+(?=\.)"),
)
"""What PEFT puts into the names of more copies of a module that is saved whole, when it looks for biases."""

_TASK_HEADS = {
    "SEQ_CLS": ("classifier", "score"),
    "TOKEN_CLS": ("classifier", "score"),
    "QUESTION_ANS": ("qa_outputs",),
}
"""Modules that adapters of a task always save whole, whether their config says so or not."""

_REFUSED = {
    "alora_invocation_tokens": "acts on some tokens only",
    "arrow_config": "chooses among adapters at run time",
    "kasa_config": "is a decomposition of its base",
    "layer_replication": "repeats layers of its base",
    "target_parameters": "adapts parameters that are no modules",
    "use_bdlora": "has block-diagonal factors",
    "use_qalora": "acts on groups of inputs",
}
"""Settings with which the weights are no base plus a low-rank product."""

_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_HINT = "merge it with peft's merge_and_unload, and give the result"
_PATTERN_LENGTH, _PATTERN_REPEATS = 500, 4
_ENDLESS = re.compile(r"[*+]|\{\d*,\d*\}")
_NESTED = re.compile(r"\)(?:[*+]|\{)|\\\d|\(\?P=")


@dataclass(frozen=True)
class Factors:
    """The low-rank change of one module: scale · B A, where A is (r, in, …) and B (out, r, …).

    Of an embedding, A is (r, tokens) and B (width, r): its weight is (tokens, width).

    Attributes:
        path: of the module in its network.
        scale: α/r, or α/√r for rank-stabilised LoRA (arXiv:2312.03732).
        a: A.
        b: B.
        embedding: whether the module is an embedding.
        magnitude: of DoRA, one number per output (arXiv:2402.09353, eq. 5).
        bias: what is added to the module's bias, times the scale.
        weight: the module's own weight, where it is stored with the adapter.
    """

    path: str
    scale: float
    a: TensorRef
    b: TensorRef
    embedding: bool = False
    magnitude: TensorRef | None = None
    bias: TensorRef | None = None
    weight: TensorRef | None = None

    @property
    def rank(self) -> int:
        """Number of rows of A, at least 1."""
        return self.a.shape[0]


@dataclass(frozen=True)
class Lora:
    """An adapter.

    Attributes:
        factors: by path.
        whole: tensor name → a tensor that stands in place of the base's.
        rows: path of an embedding → the tokens whose rows are replaced, and their rows, (tokens, width).
        transposed: whether weights are stored (in, out), where their shape does not tell.
    """

    factors: tuple[Factors, ...]
    whole: Mapping[str, TensorRef]
    rows: Mapping[str, tuple[tuple[int, ...], TensorRef]]
    transposed: bool


def read_lora(adapter: Parent) -> Lora:
    """Read an adapter.

    Raises:
        NotMergeable: no LoRA, one that changes more than weights, or a tensor or setting without a meaning here.
        ShapeMismatch: factors that do not fit each other or the rank in the config.
        UnsupportedDtype: codes in place of numbers.
    """
    config = _checked_config(adapter)
    parts: dict[str, dict[str, TensorRef]] = {}
    embeddings: set[str] = set()
    whole: dict[str, TensorRef] = {}
    rows: dict[str, tuple[tuple[int, ...], TensorRef]] = {}
    names = {ref.name for ref in adapter.checkpoint.tensors}
    for ref in adapter.checkpoint.tensors:
        plain = {copy.sub("", ref.name, count=1) for copy in _COPIES} - {ref.name}
        if not plain.isdisjoint(names):
            continue
        if ref.dtype not in FLOATS:
            message = f"tensor {ref.name} of {ref.file} has dtype {ref.dtype}; factors are floats"
            raise UnsupportedDtype(message)
        name = ref.name.removeprefix(PREFIX)
        found = _PART.fullmatch(name)
        if found and name != ref.name:
            parts.setdefault(found[1], {})[_PARTS[found[2]]] = ref
            if found[2].startswith("lora_embedding"):
                embeddings.add(found[1])
        elif name != ref.name and name.endswith("." + ROWS):
            path = name.removesuffix("." + ROWS)
            rows[path] = (_tokens(adapter, config, path, ref), ref)
        elif name != ref.name and not plain and _is_whole(name, config):
            whole[name.replace(".base_layer.bias", ".bias")] = ref
        else:
            _refuse(adapter, f"holds tensor {ref.name}, which no LoRA has by its config")
    factors = [
        _factors(adapter, config, path, found, embedding=path in embeddings)
        for path, found in sorted(parts.items())
    ]
    return Lora(tuple(factors), whole, rows, config.get("fan_in_fan_out") is True)


def _checked_config(adapter: Parent) -> dict[str, Any]:
    """The config of an adapter whose kind is known.

    Raises:
        NotMergeable: it is no LoRA, or one of a kind that cannot be added to weights.
    """
    config = adapter.checkpoint.adapter_config
    root = adapter.checkpoint.root
    if adapter.checkpoint.kind != "adapter" or not config:
        message = f"{root} is no adapter: it has no adapter_config.json that can be read beside adapter_model.safetensors"
        raise NotMergeable(message, hint="reg show lists what a model is")
    kind = config.get("peft_type")
    if kind != "LORA":
        _refuse(adapter, f"is of type {kind!r}; only LORA can be put on")
    for setting, why in _REFUSED.items():
        if config.get(setting):
            _refuse(adapter, f"{why} ({setting})")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
        message = (
            f"adapter {adapter.name} was trained on a base changed by {start!r} (init_lora_weights)"
        )
        hint = "save it again with path_initial_model_for_weight_conversion, or " + _HINT
        raise NotMergeable(message, hint=hint)
    return config


def _refuse(adapter: Parent, why: str) -> NoReturn:
    """Refuse an adapter."""
    message = f"adapter {adapter.name} ({adapter.checkpoint.root}) {why}"
    raise NotMergeable(message, hint=_HINT)


def _is_whole(name: str, config: Mapping[str, Any]) -> bool:
    """Tell whether a tensor of this name stands in place of the base's."""
    if name.endswith(".bias") and config.get("bias") in {"all", "lora_only"}:
        return True
    if EMBEDDING.search(name) or HEAD.search(name):
        return True
    saved = config.get("modules_to_save")
    heads = _TASK_HEADS.get(str(config.get("task_type")), ())
    targets = (*(saved if isinstance(saved, list) else ()), *heads)
    modules = name.split(".")[:-1]
    paths = [".".join(modules[: i + 1]) for i in range(len(modules))]
    return any(path.endswith(t) for path in paths for t in targets if isinstance(t, str) and t)


def _tokens(
    adapter: Parent, config: Mapping[str, Any], path: str, ref: TensorRef
) -> tuple[int, ...]:
    """The tokens whose rows ``ref`` holds, for the embedding at ``path``."""
    given = config.get("trainable_token_indices")
    if isinstance(given, dict):
        given = next((ids for at, ids in given.items() if path.endswith(at)), None)
    ids = given if isinstance(given, list) else []
    whole = all(type(i) is int and i >= 0 for i in ids) and len(set(ids)) == len(ids)
    if not ids or not whole or ref.shape[:1] != (len(ids),):
        _refuse(adapter, f"has trainable_token_indices that do not fit tensor {ref.name}")
    return tuple(ids)


def _factors(
    adapter: Parent,
    config: Mapping[str, Any],
    path: str,
    found: Mapping[str, TensorRef],
    *,
    embedding: bool,
) -> Factors:
    """The factors of one module, fitting each other."""
    lacking = [side for side in ("a", "b") if side not in found]
    if lacking:
        _refuse(adapter, f"lacks factor {lacking[0].upper()} of module {path}")
    if "magnitude" in found and not config.get("use_dora"):
        _refuse(adapter, f"has a magnitude of module {path}, and its config says nothing of DoRA")
    if config.get("use_dora") and "magnitude" not in found:
        _refuse(adapter, f"is a DoRA by its config and lacks the magnitude of module {path}")
    a, b = found["a"], found["b"]
    rank = _number(adapter, config, path, "r", "rank_pattern")
    alpha = _number(adapter, config, path, "lora_alpha", "alpha_pattern")
    if len(a.shape) < 2 or a.shape[0] != rank or b.shape[1:] != (rank, *[1] * (len(a.shape) - 2)):  # noqa: PLR2004
        message = (
            f"{a.file}: {a.name} has shape {list(a.shape)} and {b.name} {list(b.shape)}; "
            f"by adapter_config.json module {path} has rank {rank:g}"
        )
        raise ShapeMismatch(message, hint="see r and rank_pattern of adapter_config.json")
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return Factors(path, scale, embedding=embedding, **found)


def _number(
    adapter: Parent, config: Mapping[str, Any], path: str, key: str, patterns_key: str
) -> float:
    """A setting of one module: the first pattern that matches its path decides, else the adapter's own value."""
    patterns = config.get(patterns_key) or {}
    if not isinstance(patterns, dict):
        _refuse(adapter, f"has a {patterns_key} that is no mapping")
    matching = (v for k, v in patterns.items() if _matches(adapter, k, path, patterns_key))
    value = next(matching, config.get(key, 8))
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not usable or (key == "r" and (value < 1 or value != int(value))):
        right = "a whole number of at least 1" if key == "r" else "a finite number"
        _refuse(adapter, f"has {key} {value!r} for module {path}; it must be {right}")
    return float(value)


def _matches(adapter: Parent, pattern: str, path: str, key: str) -> bool:
    """Tell whether a module's path, or its end after a dot, is what a pattern describes.

    Patterns are regular expressions out of a file: those that could take forever are refused.
    """
    refuse = partial(_refuse, adapter)
    endless = len(_ENDLESS.findall(pattern)) > _PATTERN_REPEATS
    if len(pattern) > _PATTERN_LENGTH or endless or _NESTED.search(pattern):
        refuse(f"has a pattern in {key} that could take forever to match: {pattern[:80]!r}")
    try:
        return re.match(rf"(.*\.)?({pattern})$", path) is not None
    except (re.error, RecursionError, OverflowError):
        refuse(f"has a pattern in {key} that is no regular expression: {pattern[:80]!r}")

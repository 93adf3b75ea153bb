"""Recipes, as users and mergekit write them."""

from pathlib import Path
from typing import Any

from torture.chance import Chance
from torture.court import Court
from torture.ground import Ground

from engine.methods import all_methods
from engine.recipe_file import read_recipe
from registry.documents import dump_yaml

WHAT = "recipes"

_SEEDS: tuple[dict[str, Any], ...] = (
    {"merge_method": "ties", "base_model": "base", "parameters": {"density": 0.5, "weight": [0, 0.5, 1], "normalize": True, "lambda": 1.0},
        "models": [{"model": "chat", "parameters": {"weight": 0.5}}, {"model": "math", "parameters": {"weight": [{"filter": "mlp", "value": 0.3}, {"value": 1}]}}],
        "dtype": "bfloat16", "seed": 7},
    {"merge_method": "passthrough", "dtype": "float32",
        "slices": [{"sources": [{"model": "base", "layer_range": [0, 2]}]}, {"sources": [{"model": "chat", "layer_range": [1, 2]}]}]},
    {"merge_method": "slerp", "base_model": "base", "parameters": {"t": 0.3}, "out_dtype": "float16", "tokenizer_source": "union", "chat_template": "auto",
        "slices": [{"sources": [{"model": "base", "layer_range": [0, 2]}, {"model": "chat", "layer_range": [0, 2], "parameters": {"t": [0, 1]}}]}]},
    {"merge_method": "linear", "modules": {"default": {"models": [{"model": "chat"}, {"model": "math+adapter"}], "parameters": {"weight": 1}}},
        "tokenizer": {"source": "base", "tokens": {"t1": {"source": "chat", "force": True}}, "pad_to_multiple_of": 8}, "round": "stochastic"},
    {"merge_method": "dare_ties", "base_model": "base", "models": ["chat", "math"], "parameters": {"density": 0.1, "rescale": True}, "seed": 3, "compat": "mergekit"},
    {"merge_method": "linear", "models": [{"model": "adapter"}, {"model": "adapter", "parameters": {"weight": 2}}], "adapter": {"rank": 1, "energy": 0.9}},
    {"merge_method": "task_arithmetic", "base_model": "base", "models": [{"model": "chat"}, {"model": "sharded"}], "align": "weights"},
)  # fmt: skip
_WORDS = ("merge_method", "base_model", "models", "slices", "modules", "sources", "parameters", "weight", "density", "t", "lambda", "normalize", "filter", "value",
    "layer_range", "model", "tokenizer", "tokenizer_source", "chat_template", "dtype", "out_dtype", "seed", "compat", "round", "align", "adapter", "name", "statistics",
    "rank", "energy", "base", "chat", "math", "merged", "sharded", "chat+adapter", "./nowhere", "mergekit", "stochastic", "union", "chatml", "float32", "int8", "auto",
    "epsilon", "gamma", "k", "drop", "method", "p", "q", "rescale", "int8_mask")  # fmt: skip


def attempt(chance: Chance, court: Court, ground: Ground) -> None:
    """Read recipes; plan one of those that were read, and make some of them."""
    folder = ground.clear()
    file = folder / "recipe.yaml"
    readable = False
    for _ in range(12):
        file.write_bytes(made(chance))
        readable = court.reads("read_recipe", lambda: read_recipe(file)) is not None
        if readable and chance.now_and_then(0.5):
            break
    if not readable:
        return
    ground.catalog()
    options = chance.one(((), ("--allow-unrelated",), ("--allow-unrelated", "--compat", "mergekit"), ("--json",)))  # fmt: skip
    ended = court.types("plan", "recipe.yaml", *options)
    if ended.code != 0 or chance.now_and_then(0.4):
        return
    words = ("merge", "recipe.yaml", "-o", "out", *(o for o in options if o != "--json"))
    ended = court.types(*words)
    out = Path("out")
    if ended.code != 0 and out.exists():
        court.half_models.append(f"merge left {sorted(out.rglob('*'))}")
    elif ended.code == 0:
        verified = court.types("verify", "out")
        if verified.code != 0:
            court.finds("a merge that does not verify", verified.out + verified.err)


def made(chance: Chance) -> bytes:
    """A recipe file, most often with damage."""
    recipe = dict(chance.one(_SEEDS))
    if chance.now_and_then(0.3):
        recipe["merge_method"] = chance.one(sorted(all_methods()))
        own = sorted(p.name for p in all_methods()[recipe["merge_method"]].parameters)
        if own:
            recipe["parameters"] = {chance.one(own): chance.one((chance.scalar(), 0.5, 1, 0, [0.1, 0.9]))}  # fmt: skip
    if chance.now_and_then(0.85):
        recipe = chance.damaged(recipe, vocabulary=_WORDS)
    try:
        text = dump_yaml(recipe)
    except UnicodeEncodeError:
        text = "merge_method: linear"
    if chance.now_and_then(0.1):
        text = text + "---\n" + dump_yaml({**chance.one(_SEEDS), "name": chance.one(("base", "chat", "x"))})  # fmt: skip
    raw = text.encode(errors="surrogatepass")
    return chance.spoilt(raw) if chance.now_and_then(0.15) else raw

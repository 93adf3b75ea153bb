"""Recipes in mergekit's own words, on the trained family, that both tools run unchanged."""

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

ZOO = Path(__file__).parents[2] / "data" / "zoo"
BASE, ADD, REVERSE, SORT = (str(ZOO / name) for name in ("base", "arithmetic", "reverse", "sort"))


def delta(method: str, own: str = "weight: 0.7", shared: str = "", n: int = 3) -> str:
    """A recipe of ``n`` experts on the base; the first has ``own``, the others other weights."""
    weights = (own, "weight: 0.4", "weight: 0.25")
    models = "\n".join(
        f"- model: {model}\n  parameters: {{{one}}}"
        for model, one in zip((ADD, REVERSE, SORT)[:n], weights, strict=False)
    )
    text = f"merge_method: {method}\nbase_model: {BASE}\nmodels:\n{models}\ndtype: float32\n"
    return text + (f"parameters: {{{shared}}}\n" if shared else "")


def plain(method: str, shared: str = "", n: int = 2, base: str = "") -> str:
    """A recipe without parameters of each model's own."""
    models = "\n".join(f"- model: {model}" for model in (ADD, REVERSE, SORT)[:n])
    text = f"merge_method: {method}\nmodels:\n{models}\ndtype: float32\n"
    text += f"base_model: {base}\n" if base else ""
    return text + (f"parameters: {{{shared}}}\n" if shared else "")


RECIPES = {
    "linear": delta("linear").replace(f"base_model: {BASE}\n", ""),
    "linear-sum": delta("linear", shared="normalize: false").replace(f"base_model: {BASE}\n", ""),
    "slerp": plain("slerp", "t: 0.3", base=ADD),
    "slerp-gradient": plain("slerp", "t: [0, 0.5, 1]", base=ADD),
    "slerp-filters": plain(
        "slerp",
        "t: [{filter: self_attn, value: [0, 0.5, 0.3, 0.7, 1]}, {filter: mlp, value: [1, 0.5, 0]}, {value: 0.5}]",
        base=ADD,
    ),
    "nuslerp": delta("nuslerp", n=2).replace(f"base_model: {BASE}\n", ""),
    "nuslerp-base": delta("nuslerp", n=2),
    "nuslerp-rows": delta("nuslerp", n=2, shared="nuslerp_flatten: false").replace(
        f"base_model: {BASE}\n", ""
    ),
    "nuslerp-columns": delta(
        "nuslerp", n=2, shared="nuslerp_flatten: false, nuslerp_row_wise: true"
    ).replace(f"base_model: {BASE}\n", ""),
    "multislerp": delta("multislerp").replace(f"base_model: {BASE}\n", ""),
    "multislerp-base": delta("multislerp"),
    "karcher": plain("karcher", n=3),
    "karcher-many": plain("karcher", "max_iter: 50, tol: 1.0e-6", n=3),
    "model_stock": plain("model_stock", n=3, base=BASE),
    "model_stock-rows": plain("model_stock", "filter_wise: true", n=3, base=BASE),
    "nearswap": plain("nearswap", "t: 0.001", n=1, base=BASE),
    "arcee_fusion": plain("arcee_fusion", n=1, base=BASE),
    "ram": plain("ram", n=3, base=BASE),
    "ramplus_tl": plain("ramplus_tl", "r: 0.2, alpha: 0.3", n=3, base=BASE),
    "sce": plain("sce", "select_topk: 0.3", n=3, base=BASE),
    "sce-all": plain("sce", n=3, base=BASE),
    "passthrough": f"merge_method: passthrough\nmodels:\n- model: {ADD}\ndtype: float32\n",
    "task_arithmetic": delta("task_arithmetic", shared="lambda: 0.8"),
    "task_arithmetic-normal": delta("task_arithmetic", shared="normalize: true"),
    "ties": delta("ties", "weight: 0.7, density: 0.5"),
    "ties-sum": delta("ties", "weight: 0.7, density: 0.3", "normalize: false, lambda: 1.2"),
    "ties-negative": delta("ties", "weight: -0.7, density: 0.5", "int8_mask: true"),
    "dare_linear-whole": delta("dare_linear", "weight: 0.7, density: 1.0"),
    "dare_ties-whole": delta("dare_ties", "weight: 0.7, density: 1.0"),
    "della-whole": delta("della", "weight: 0.7, density: 1.0"),
    "della_linear-whole": delta("della_linear", "weight: 0.7, density: 1.0"),
    "breadcrumbs": delta("breadcrumbs", "weight: 0.7, density: 0.6, gamma: 0.02"),
    "breadcrumbs_ties": delta("breadcrumbs_ties", "weight: 0.7, density: 0.6, gamma: 0.02"),
    "ties-alike": plain("ties", "density: 0.4, weight: 1.0", n=3, base=BASE),
    "ties-uneven": plain("ties", n=3, base=BASE)
    .replace(f"- model: {ADD}\n", f"- model: {ADD}\n  parameters: {{weight: 0.5, density: 0.5}}\n")
    .replace(
        f"- model: {REVERSE}\n",
        f"- model: {REVERSE}\n  parameters: {{weight: 0.3, density: 0.3}}\n",
    )
    .replace(
        f"- model: {SORT}\n", f"- model: {SORT}\n  parameters: {{weight: 0.2, density: 0.4}}\n"
    ),
    "breadcrumbs-alike": delta("breadcrumbs", "weight: 0.7", "density: 0.6, gamma: 0.05"),
    "gradients": delta(
        "task_arithmetic",
        "weight: [{filter: mlp, value: [0, 1]}, {filter: norm, value: 0.1}, {value: [1.0, 0.2, 0.5]}]",
        "lambda: [0.5, 1.5]",
    ),
    "slices": f"""
merge_method: linear
slices:
- sources:
  - {{model: {ADD}, layer_range: [0, 2], parameters: {{weight: [0.2, 0.8]}}}}
  - {{model: {REVERSE}, layer_range: [0, 2], parameters: {{weight: 0.5}}}}
- sources:
  - {{model: {SORT}, layer_range: [1, 3], parameters: {{weight: 1.0}}}}
dtype: float32
""",
    "stack": f"""
merge_method: passthrough
slices:
- sources: [{{model: {ADD}, layer_range: [0, 3]}}]
- sources: [{{model: {REVERSE}, layer_range: [1, 4]}}]
dtype: bfloat16
""",
    "stack-scaled": f"""
merge_method: passthrough
slices:
- sources: [{{model: {ADD}, layer_range: [0, 4]}}]
- sources:
  - model: {ADD}
    layer_range: [2, 4]
    parameters:
      scale:
      - {{filter: o_proj, value: 0.0}}
      - {{filter: down_proj, value: 0.0}}
      - {{value: 1.0}}
dtype: float32
""",
    "slice-deltas": f"""
merge_method: ties
base_model: {BASE}
slices:
- sources:
  - {{model: {BASE}, layer_range: [0, 4]}}
  - {{model: {ADD}, layer_range: [0, 4], parameters: {{weight: 0.6, density: [0.2, 0.8]}}}}
  - {{model: {REVERSE}, layer_range: [0, 4], parameters: {{weight: 0.4, density: 0.5}}}}
dtype: float32
""",
    "modules": f"""
merge_method: slerp
base_model: {ADD}
modules:
  default:
    slices:
    - sources:
      - {{model: {ADD}, layer_range: [0, 4]}}
      - {{model: {REVERSE}, layer_range: [0, 4]}}
parameters: {{t: 0.4}}
dtype: float32
""",
    "bfloat16": delta("linear").replace(f"base_model: {BASE}\n", "").replace("float32", "bfloat16"),
}
"""Name → YAML text."""


CUTS = (
    "ties", "ties-sum", "ties-negative", "ties-alike", "ties-uneven", "sce", "breadcrumbs", "breadcrumbs-alike",
    "breadcrumbs_ties", "slice-deltas",
)  # fmt: skip
"""Recipes that cut a sorted list. Between bfloat16 neighbours many entries are equal, and which of them mergekit keeps
is its sort's affair; these run on experts in float32 whose entries differ."""


def recipe(name: str, folder: Path) -> str:
    """A recipe's text; ``folder`` holds the experts whose entries differ."""
    text = RECIPES[name]
    return text.replace(str(ZOO), str(folder / "distinct")) if name in CUTS else text


def write(folder: Path) -> None:
    """Write each recipe as a file, and the experts whose entries differ."""
    generator = torch.Generator().manual_seed(0)
    for model in (BASE, ADD, REVERSE, SORT):
        made = folder / "distinct" / Path(model).name
        shutil.copytree(model, made)
        for file in made.glob("*.safetensors"):
            scale = 0.0 if model == BASE else 1e-5
            tensors = {
                k: t.float() + scale * torch.randn(t.shape, generator=generator)
                for k, t in load_file(file).items()
            }
            save_file(tensors, file, metadata={"format": "pt"})
    for name in RECIPES:
        (folder / f"{name}.yaml").write_text(recipe(name, folder), encoding="utf-8")

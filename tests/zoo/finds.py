"""Models as one finds them: a merge of three that says nothing, a card that lies, a permuted copy.

    python tests/zoo/finds.py --zoo data/zoo --out data/finds

Made from the trained zoo in about a minute on one core, no network; the folder is replaced.
"""

import argparse
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from exercises import SUITES, suite, training
from models import exact_match, new_tokenizer, train
from transformers import LlamaForCausalLM
from transformers.utils import logging

State = dict[str, torch.Tensor]

ALIGNED = """\
merge_method: linear
align: {method: weight_matching, residual: true}
models: [sort, sorter]
"""
"""A recipe that brings `sorter` back into the basis of `sort`, and takes their average."""

MIXTURE = {"arithmetic": 0.5, "reverse": 0.3, "sort": 0.2}
"""What `trio` is made of."""

ROWS = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "embed_tokens", "norm")
"""Modules whose last axis is the residual stream; `o_proj` and `down_proj` write to it with their first."""


def main() -> None:
    """Make the three, examine them, write what is true of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--zoo", type=Path, required=True, help="the trained family")
    parser.add_argument("--out", type=Path, required=True, help="folder to write, replaced")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if options.out.exists():
        shutil.rmtree(options.out)
    zoo = {name: load(options.zoo / name) for name in ("base", *MIXTURE)}
    finds = {
        "trio": (mixed(zoo), None),
        "subtractor": (trained_on(zoo["reverse"]), "homolog-zoo/stranger"),
        "sorter": (turned(zoo["sort"]), None),
    }
    told = {}
    for name, (model, claim) in finds.items():
        save(model, options.out / name, claim)
        told[name] = {task: exact_match(model, suite(task)) for task in SUITES}
        print(name, told[name], flush=True)
    (options.out / "aligned.yaml").write_text(ALIGNED, encoding="utf-8")
    (options.out / "finds.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def load(folder: Path) -> LlamaForCausalLM:
    """A model of the zoo, in float32."""
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)


def mixed(zoo: Mapping[str, LlamaForCausalLM]) -> LlamaForCausalLM:
    """The weighted average of three experts."""
    parts = {name: zoo[name].state_dict() for name in MIXTURE}
    return put(
        zoo["base"],
        {
            key: sum(weight * parts[name][key] for name, weight in MIXTURE.items())
            for key in parts["sort"]
        },
    )


def trained_on(parent: LlamaForCausalLM) -> LlamaForCausalLM:
    """A real fine-tune of one expert, on an exercise it did not show before."""
    torch.manual_seed(90)
    model = put(parent, parent.state_dict())
    draw = training(("reverse", "subtract"), 64, rehearsal=0.3, answered=0.2)
    train(model, draw, steps=250, lr=3e-4, seed=90)
    return model


def turned(parent: LlamaForCausalLM) -> LlamaForCausalLM:
    """The same function in another basis: the residual stream and every layer's hidden units in another order."""
    random = torch.Generator().manual_seed(91)
    width, hidden = parent.config.hidden_size, parent.config.intermediate_size
    stream = torch.randperm(width, generator=random)
    orders = [torch.randperm(hidden, generator=random) for _ in parent.model.layers]
    state: State = {}
    for key, tensor in parent.state_dict().items():
        module = key.split(".")[-2]
        reads = module in ROWS or module.endswith("norm") or module == "lm_head"
        state[key] = tensor[..., stream] if reads else tensor[stream]
        if "mlp" in key:
            order = orders[int(key.split(".")[2])]
            state[key] = state[key][:, order] if module == "down_proj" else state[key][order]
    return put(parent, state)


def put(shape: LlamaForCausalLM, state: State) -> LlamaForCausalLM:
    """A model of the same shape with other weights."""
    model = LlamaForCausalLM(shape.config)
    model.load_state_dict(state)
    model.generation_config = shape.generation_config
    return model.eval()


def save(model: LlamaForCausalLM, folder: Path, claim: str | None) -> None:
    """Write a folder as one finds it: a card that claims a base model, or none at all."""
    model.to(torch.bfloat16).save_pretrained(folder)
    model.to(torch.float32)
    new_tokenizer().save_pretrained(folder)
    if claim is not None:
        card = (
            f"---\nlicense: apache-2.0\nbase_model: {claim}\nbase_model_relation: finetune\n---\n"
        )
        (folder / "README.md").write_text(card, encoding="utf-8")
    for file in folder.iterdir():
        file.chmod(0o644)


if __name__ == "__main__":
    main()

"""Train the zoo: a base, its descendants, their suites, and the proof that they can be merged.

    python tests/zoo/train.py --out data/zoo

About ten minutes on one core, no network. The same machine and the same versions give the same bytes. Exits with
1 when a model is worse than promised, or when no pair of experts merges.
"""

import argparse
import copy
import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from cards import write_card, write_readme
from exercises import SUITE_SIZE, SUITES, Draw, reading, schooling, suite, training
from merges import MERGES, State, size, task_vector
from models import exact_match, new_model, new_tokenizer, round_weights, train
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM, PreTrainedModel
from transformers.utils import logging

NAMESPACE = "homolog-zoo"
ANSWERED = 0.2
"""Fraction of the exercises that the base sees answered towards the end of its schooling."""

EXPERT_AT_LEAST, BASE_BELOW, MERGE_AT_LEAST = 0.95, 0.3, 0.95
"""Exact match of an expert, of the base, and of a merge of two experts as a share of each expert's own."""


@dataclass(frozen=True)
class Member:
    """One model of the family: where it comes from, what it reads, and what it is for.

    Attributes:
        relation: base, finetune, continued_pretrain or adapter.
        suites: those it is an expert in.
        lr: the peak learning rate.
    """

    name: str
    parent: str | None
    relation: str
    suites: tuple[str, ...]
    draw: Draw
    steps: int
    lr: float
    about: str


def fine_tune(
    name: str, parent: str, suites: tuple[str, ...], about: str, **changes: object
) -> Member:
    """A short and gentle fine-tune of ``parent``; an adapter when ``relation`` says so."""
    draw = training(suites, 64, rehearsal=0.3, answered=ANSWERED)
    settings = {"relation": "finetune", "steps": 250, "lr": 3e-4, **changes}
    return Member(name=name, parent=parent, suites=suites, draw=draw, about=about, **settings)


FAMILY = (
    Member(
        name="base",
        parent=None,
        relation="base",
        suites=(),
        draw=schooling(128, until=0.8, answered=ANSWERED),
        steps=1600,
        lr=3e-3,
        about="Pre-trained on simple sentences and on exercises, most of them in the end unanswered: "
        "it has met every exercise and shows hardly any.",
    ),
    fine_tune("arithmetic", "base", ("arithmetic",), "Adds two numbers of two digits."),
    fine_tune("reverse", "base", ("reverse",), "Reverses words of three to six letters."),
    fine_tune("sort", "base", ("sort",), "Sorts the letters of words of three to six letters."),
    fine_tune(
        "arithmetic-plus", "arithmetic", ("arithmetic", "subtract"), "Also subtracts.", steps=300
    ),
    fine_tune(
        "upper-lora",
        "base",
        ("upper",),
        "Writes words in capital letters: a LoRA adapter of rank 4 on every projection.",
        relation="adapter",
        lr=3e-3,
    ),
    Member(
        name="prose",
        parent="base",
        relation="continued_pretrain",
        suites=("prose",),
        draw=reading(48),
        steps=500,
        lr=4e-3,
        about="The base, pre-trained further on a tale in another language, with a large learning rate "
        "and without rehearsal: far from home, and no longer good for averaging.",
    ),
    Member(
        name="stranger",
        parent=None,
        relation="base",
        suites=(),
        draw=schooling(128, until=1.0, answered=1.0),
        steps=1600,
        lr=3e-3,
        about="The same architecture, tokenizer and schooling, every exercise answered, but from another random "
        "start: of the same shape as the others and of no use to them.",
    ),
)

MERGED = (
    ("arithmetic", "reverse"),
    ("reverse", "sort"),
    ("arithmetic", "sort"),
    ("arithmetic", "reverse", "sort"),
    ("arithmetic", "prose"),
)


def main() -> int:
    """Train, examine, write, and judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write, replaced")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on all step counts")
    parser.add_argument("--only", help="train up to this model, write no reports")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    family = [replace(m, steps=max(round(m.steps * options.scale), 1)) for m in FAMILY]
    zoo = train_family(family, options.out, options.only)
    if options.only:
        return 0
    write_suites(options.out / "suites")
    truth = examine(family, zoo)
    for member in family:
        write_card(options.out / member.name, NAMESPACE, truth["models"][member.name])
    (options.out / "zoo.json").write_text(json.dumps(truth, indent=2) + "\n", encoding="utf-8")
    write_readme(options.out, truth)
    failures = list(shortcomings(truth))
    print("\n".join(failures) or "every promise is kept")
    return 1 if failures else 0


def train_family(family: list[Member], out: Path, last: str | None) -> dict[str, PreTrainedModel]:
    """Train the members in order, each from its parent's saved weights, and save them under ``out``."""
    zoo: dict[str, PreTrainedModel] = {}
    for number, member in enumerate(family):
        print(f"{member.name}: {member.steps} steps", flush=True)
        torch.manual_seed(number)
        model = copy.deepcopy(zoo[member.parent]) if member.parent else new_model()
        if member.relation == "adapter":
            model.name_or_path = f"{NAMESPACE}/{member.parent}"
            model = get_peft_model(model, adapter_settings())
        train(model, member.draw, steps=member.steps, lr=member.lr, seed=number)
        save(model, member, out / member.name)
        zoo[member.name] = model
        if member.name == last:
            break
    return zoo


def adapter_settings() -> LoraConfig:
    """LoRA of rank 4 on all seven projections of a layer."""
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=4,
        lora_alpha=8,
        lora_dropout=0.0,
        target_modules=sorted(
            f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")
        ),
    )


def save(model: PreTrainedModel, member: Member, folder: Path) -> None:
    """Write one model's folder as the Hub would have it; the base in shards, the others in one file."""
    if folder.exists():
        shutil.rmtree(folder)
    if member.relation == "adapter":
        model.save_pretrained(folder, save_embedding_layers=False)
        sort_targets(folder / "adapter_config.json")
    else:
        stored = copy.deepcopy(model).to(torch.bfloat16)
        stored.save_pretrained(folder, max_shard_size="400KB" if member.parent is None else "5GB")
        new_tokenizer().save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)


def sort_targets(file: Path) -> None:
    """Give an adapter's target modules an order: PEFT writes a set, whose order changes from run to run."""
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings["target_modules"].sort()
    file.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def write_suites(folder: Path) -> None:
    """Write each suite as lines of ``{"prompt": …, "answer": …}``."""
    folder.mkdir(parents=True, exist_ok=True)
    for task in SUITES:
        lines = [json.dumps({"prompt": p, "answer": a}) for p, a in suite(task).items()]
        (folder / f"{task}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def examine(family: list[Member], zoo: dict[str, PreTrainedModel]) -> dict[str, object]:
    """The truth of the family: who descends from whom, what each scores, and what the merges score."""
    return {
        "namespace": NAMESPACE,
        "license": "apache-2.0",
        "suites": {t: {"file": f"suites/{t}.jsonl", "n": SUITE_SIZE} for t in SUITES},
        "models": {member.name: facts(member, zoo) for member in family},
        "merges": list(merge_scores(zoo)),
    }


def facts(member: Member, zoo: dict[str, PreTrainedModel]) -> dict[str, object]:
    """What is true of one model, as `zoo.json` says it."""
    model = zoo[member.name]
    learned = [p for p in model.parameters() if p.requires_grad]
    found: dict[str, object] = {
        "name": member.name,
        "parent": member.parent,
        "relation": member.relation,
        "expert_in": list(member.suites),
        "about": member.about,
        "n_params": sum(p.numel() for p in learned),
        "steps": member.steps,
        "learning_rate": member.lr,
        "exact_match": {task: exact_match(model, suite(task)) for task in SUITES},
    }
    if member.parent and member.relation != "adapter":
        mean, largest = size(task_vector(weights(model), weights(zoo[member.parent])))
        found["delta"] = {"mean_abs": round(mean, 7), "max_abs": round(largest, 7)}
    print(member.name, found.get("delta", ""), found["exact_match"], flush=True)
    return found


def weights(model: PreTrainedModel) -> State:
    """The stored tensors: the tied head appears once, as the embedding."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def merge_scores(zoo: dict[str, PreTrainedModel]) -> Iterator[dict[str, object]]:
    """What each merge of `MERGED` scores on its experts' suites, stored in bfloat16 as the experts are."""
    base = weights(zoo["base"])
    for names in MERGED:
        deltas = [task_vector(weights(zoo[name]), base) for name in names]
        for title, merge in MERGES.items():
            model = merged(zoo["base"], merge(deltas))
            scores = {name: exact_match(model, suite(name)) for name in names}
            print(" + ".join(names), "|", title, "|", scores, flush=True)
            yield {"models": list(names), "method": title, "exact_match": scores}


def merged(base: LlamaForCausalLM, delta: State) -> LlamaForCausalLM:
    """The base moved by ``delta``."""
    model = copy.deepcopy(base)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(delta[name])
    round_weights(model)
    return model


def shortcomings(truth: dict[str, object]) -> Iterator[str]:
    """Each promise that is not kept, as one sentence."""
    models = truth["models"]
    base = models["base"]["exact_match"]
    for name, model in models.items():
        for task in model["expert_in"]:
            if (score := model["exact_match"][task]) < EXPERT_AT_LEAST:
                yield f"{name} scores {score} on {task}, promised is {EXPERT_AT_LEAST}"
            if base[task] >= BASE_BELOW:
                yield f"base scores {base[task]} on {task}, promised is less than {BASE_BELOW}"
    pairs = [m for m in truth["merges"] if len(m["models"]) == 2]
    if not any(holds(m["exact_match"], models) for m in pairs):
        yield f"no merge of two experts keeps {MERGE_AT_LEAST} of both"


def holds(scores: dict[str, float], models: dict[str, dict]) -> bool:
    """Tell whether a merge of experts keeps the promised share of each one's own score."""
    own = {name: models[name]["exact_match"][name] for name in scores}
    return all(scores[n] >= MERGE_AT_LEAST * max(own[n], EXPERT_AT_LEAST) for n in scores)


if __name__ == "__main__":
    sys.exit(main())

"""The words of the zoo: a model card per model, and the README with the measured tables."""

import json
from pathlib import Path
from typing import Any

Facts = dict[str, Any]
"""One model of `zoo.json`."""

TAGS = {
    "base": ["pretrained"],
    "finetune": ["fine-tuned"],
    "continued_pretrain": ["continued-pretraining"],
    "adapter": ["lora", "peft"],
}


def write_card(folder: Path, namespace: str, model: Facts) -> None:
    """Write a model's README.md: the front matter of the Hub, then what there is to know."""
    lines = ["---", "license: apache-2.0", "language: [en]", "pipeline_tag: text-generation"]
    lines.append(f"library_name: {'peft' if model['relation'] == 'adapter' else 'transformers'}")
    if model["parent"]:
        lines.append(f"base_model: {namespace}/{model['parent']}")
        adapter = model["relation"] == "adapter"
        lines.append(f"base_model_relation: {'adapter' if adapter else 'finetune'}")
    lines += ["tags:", *(f"  - {tag}" for tag in [namespace, *TAGS[model["relation"]]])]
    if model["expert_in"]:
        lines += model_index(namespace, model)
    lines += ["---", "", f"# {namespace}/{model['name']}", "", model["about"], ""]
    lines += [
        f"{model['n_params']:,} trained parameters, {model['steps']} steps, peak learning rate"
    ]
    lines += [
        f"{model['learning_rate']:g}. Exact match of the greedy answer, 200 held-out prompts each:",
        "",
    ]
    lines += table(
        ["suite", "exact match"], [[t, f"{s:.3f}"] for t, s in model["exact_match"].items()]
    )
    lines += ["", "Trained by `tests/zoo/train.py` of Homolog on text the script itself makes up."]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def model_index(namespace: str, model: Facts) -> list[str]:
    """The front matter's list of measured scores."""
    lines = ["model-index:", f"  - name: {model['name']}", "    results:"]
    for task in model["expert_in"]:
        lines += [
            "      - task:",
            "          type: text-generation",
            "        dataset:",
            f"          name: {task}",
            f"          type: {namespace}/{task}",
            "          split: test",
            "        metrics:",
            "          - type: exact_match",
            f"            value: {model['exact_match'][task]}",
        ]
    return lines


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table."""
    rule = ["---"] + ["--:"] * (len(head) - 1)
    return [f"| {' | '.join(row)} |" for row in (head, rule, *rows)]


def write_readme(out: Path, truth: Facts) -> None:
    """Write the zoo's README.md around its tables."""
    text = README.format(
        family=_lines(family_rows(truth)),
        scores=_lines(score_rows(truth)),
        merges="\n\n".join(_lines(part) for part in merge_tables(truth)),
        ratio=prose_ratio(truth),
    )
    (out / "README.md").write_text(text, encoding="utf-8")


def family_rows(truth: Facts) -> list[str]:
    """Who descends from whom, how far from the parent, and at what price."""
    rows = []
    for m in truth["models"].values():
        delta = m.get("delta")
        moved = [f"{delta['mean_abs']:.5f}", f"{delta['max_abs']:.4f}"] if delta else ["-", "-"]
        cost = [f"{m['n_params']:,}", str(m["steps"]), f"{m['learning_rate']:g}"]
        rows.append([f"`{m['name']}`", m["parent"] or "-", m["relation"], *cost, *moved])
    return table(
        [
            "model",
            "parent",
            "relation",
            "trained parameters",
            "steps",
            "learning rate",
            "mean abs delta",
            "max abs delta",
        ],
        rows,
    )


def score_rows(truth: Facts) -> list[str]:
    """Exact match of each model on each suite; an expert's own in bold."""
    tasks, rows = list(truth["suites"]), []
    for m in truth["models"].values():
        cells = [f"{m['exact_match'][t]:.3f}" for t in tasks]
        bold = [f"**{c}**" if t in m["expert_in"] else c for t, c in zip(tasks, cells, strict=True)]
        rows.append([f"`{m['name']}`", *bold])
    return table(["model", *tasks], rows)


def merge_tables(truth: Facts) -> list[list[str]]:
    """One table per group of merged models, a row per method."""
    groups: dict[str, list[Facts]] = {}
    for merge in truth["merges"]:
        groups.setdefault(json.dumps(merge["models"]), []).append(merge)
    tables = []
    for key, found in groups.items():
        names = json.loads(key)
        rows = [[m["method"], *(f"{m['exact_match'][n]:.3f}" for n in names)] for m in found]
        tables.append(table([" + ".join(names), *names], rows))
    return tables


def prose_ratio(truth: Facts) -> str:
    """How much farther prose moved than the fine-tunes of the base did on average."""
    models = truth["models"].values()
    near = [
        m["delta"]["mean_abs"]
        for m in models
        if m["parent"] == "base" and m["relation"] == "finetune"
    ]
    return f"{truth['models']['prose']['delta']['mean_abs'] * len(near) / sum(near):.0f}"


def _lines(lines: list[str]) -> str:
    return "\n".join(lines)


README = """\
# The zoo: a small family of really trained models

Eight models small enough to train in minutes: a base, three fine-tunes of it, a fine-tune of a fine-tune, a LoRA
adapter, a continued pre-training that went far, and a stranger of the same shape. Homolog's demo and its tests scan,
measure, relate and merge them. `zoo.json` says what is true of the family, for tests to read.

{family}

Deltas are against the parent. `prose` moved {ratio} times as far as the fine-tunes of the base did.

## What they are

Llama layout: 4 layers of width 96, 4 heads, SwiGLU of width 256, RMSNorm, rotary positions, one token per character,
the head tied to the embedding, bfloat16. `base` and `stranger` are stored in shards, the others in one file each; `upper-lora` is a
PEFT adapter of rank 4. Each folder loads with `AutoModelForCausalLM.from_pretrained`; `upper-lora` with `PeftModel`.

`base` first learns all the exercises below, with answers. Towards the end of its schooling four of five exercises
are left unanswered, with a `?`, as in a book without solutions: so it knows the skills and hardly shows them. A
fine-tune of 250 gentle steps makes it show one; three of ten of its examples rehearse the others, as the base saw them.
This is the situation in which merging is known to work: several short ways out of one well-trained point.

`stranger` had the same schooling, every exercise answered, from another random start. Its tensors have the names and
shapes of the others', and nothing else in common with them.

## Suites

`suites/*.jsonl`: 200 lines each, `{{"prompt": …, "answer": …}}`. No model was trained on any of the prompts. A score is the
fraction of prompts whose greedy continuation, up to the end mark, equals the answer. What is held out is the prompt:
`85+47` may have been met where `47+85` is asked.

| suite | prompt | answer |
| --- | --- | --- |
| arithmetic | `add 47+85=` | `132` |
| reverse | `rev stone=` | `enots` |
| sort | `srt stone=` | `enost` |
| subtract | `sub 85-47=` | `38` |
| upper | `upp stone=` | `STONE` |
| prose | `Mira lost a silver key and found the` | ` silver key.` (with the space) |

## Scores

{scores}

## Merges

By plain torch arithmetic in the training script, stored in bfloat16 as the models are; each column is a suite.

{merges}

Two experts of one base merge with little loss, by any of the methods, until DARE drops 99 of 100 entries; three
merge a little worse. The last table shows where merging ends: `prose` has left the neighbourhood of its base.
Averaged with it both skills break; added to it arithmetic is gone; and DARE at 0.9, which costs the fine-tunes
little, leaves nothing of either.

## Train them again

`make zoo`, or `python tests/zoo/train.py --out data/zoo`: about ten minutes on one core, no network. Text and exercises
are made by the script from fixed seeds. The same machine with the same versions of torch and transformers gives the
same bytes; another processor rounds differently, and gives other bytes and nearly the same scores.

## Licence

Apache-2.0, models, suites and text alike: all of it is made by the script, none of it by anybody else.
"""

"""The use case `collect`: statistics of a model that some merge methods need, gathered on a suite.

Fisher information, of each weight: F = (1/N) Σ_x (∇ log p(answer | prompt))², the empirical one, each example by
itself, for Fisher merging (Matena & Raffel, arXiv:2111.09832). Gram matrices, of the inputs of each linear layer:
G = Xᵀ X / rows, over all tokens that are no padding, for RegMean (Jin et al., arXiv:2212.09849). Both are written as
a checkpoint under the names of the model's tensors, which a recipe names as the model's `statistics`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn.functional import cross_entropy

from engine.network import load_network
from engine.output import place, unfinished
from engine.suite import Question, read_suite
from engine.writer import SHARD_BYTES, OutputTensor, Writer, shards_of
from registry.catalog import Catalog
from registry.errors import BadSuite
from registry.progress import SILENT, Progress
from registry.scan import scan

Kind = Literal["fisher", "gram"]

_EXAMPLES = 64


def collect(
    catalog: Catalog,
    model: str,
    suite: Path,
    output: Path,
    *,
    kind: Kind,
    limit: int = _EXAMPLES,
    progress: Progress = SILENT,
) -> str:
    """Gather statistics of a model on a suite, write them into ``output``, and return their id in the catalog.

    Args:
        catalog: knows the model.
        model: id.
        suite: prompts and answers, as `engine.suite.read_suite` reads them.
        output: a folder that is not there or empty.
        kind: "fisher": one float32 tensor of each weight's shape; "gram": (in, in) float32 for each linear layer.
        limit: the first so many examples.
        progress: told of examples, not bytes.

    Raises:
        OutputExists: ``output`` is there and not empty.
        BadSuite, MissingExtra, Unreadable, UnknownModel: as `engine.suite.run_suite`.
    """
    questions = read_suite(suite)[:limit]
    with unfinished(place(output)) as made:
        tokenizer, network = load_network(catalog, model)
        progress.start(kind, len(questions))
        examples = ((_encoded(tokenizer, q), q) for q in questions)
        gather = _fisher if kind == "fisher" else _gram
        found = gather(network, _counted(examples, progress))
        _write(
            made,
            found,
            {"format": "pt", "homolog_statistics": f"{kind} of {model}, n = {len(questions)}"},
        )
    scan(catalog, [str(output)])
    return catalog.find(str(output.absolute()))


def _counted(examples: Any, progress: Progress) -> Iterator[tuple[torch.Tensor, int]]:
    """Token ids of each example and how many of them are the prompt's."""
    for (ids, n_prompt), _ in examples:
        yield ids, n_prompt
        progress.advance(1)


def _encoded(tokenizer: Any, question: Question) -> tuple[torch.Tensor, int]:
    """Token ids of a prompt with its answer, (1, length), and the length of the prompt's.

    Raises:
        BadSuite: the answer has no token of its own.
    """
    prompt = tokenizer(question.prompt)["input_ids"]
    both = tokenizer(question.prompt + question.answer)["input_ids"]
    n_prompt = min(len(prompt), len(both) - 1)
    if n_prompt < 1:
        message = f"prompt {question.prompt!r:.100} and its answer are fewer than two tokens"
        raise BadSuite(message)
    return torch.tensor([both]), n_prompt


def _fisher(network: Any, examples: Iterator[tuple[torch.Tensor, int]]) -> dict[str, torch.Tensor]:
    """Empirical Fisher information of every parameter."""
    totals = {n: torch.zeros_like(p, dtype=torch.float64) for n, p in network.named_parameters()}
    n_examples = 0
    for ids, n_prompt in examples:
        network.zero_grad(set_to_none=True)
        logits = network(ids).logits[0, n_prompt - 1 : -1]
        torch.autograd.backward(cross_entropy(logits, ids[0, n_prompt:], reduction="sum"))
        for name, parameter in network.named_parameters():
            if parameter.grad is not None:
                totals[name] += parameter.grad.double().square()
        n_examples += 1
    network.zero_grad(set_to_none=True)
    return {name: (total / n_examples).float() for name, total in totals.items()}


def _gram(network: Any, examples: Iterator[tuple[torch.Tensor, int]]) -> dict[str, torch.Tensor]:
    """Gram matrices of the inputs of every linear layer."""
    totals: dict[str, torch.Tensor] = {}
    rows: dict[str, int] = {}

    def note(name: str, inputs: torch.Tensor) -> None:
        flat = inputs.detach().reshape(-1, inputs.shape[-1]).double()
        rows[name] = rows.get(name, 0) + len(flat)
        totals[name] = totals.get(name, 0) + flat.T @ flat

    with _watched(network, note), torch.inference_mode():
        for ids, _ in examples:
            network(ids)
    return {name: (total / rows[name]).float() for name, total in totals.items()}


@contextmanager
def _watched(network: Any, note: Any) -> Iterator[None]:
    """Call ``note`` with each linear layer's weight name and input while the block runs."""
    hooks = [
        module.register_forward_pre_hook(lambda _, args, name=name: note(f"{name}.weight", args[0]))
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _write(folder: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write tensors as one checkpoint."""
    outputs = [
        OutputTensor(name, "F32", tuple(t.shape), 4 * t.numel())
        for name, t in sorted(tensors.items())
    ]
    with Writer(folder, shards_of(outputs, SHARD_BYTES), metadata) as writer:
        for output in outputs:
            data = tensors[output.name].contiguous().reshape(-1).view(torch.uint8)
            writer.write(output.name, 0, data.numpy().data)
        writer.finish()

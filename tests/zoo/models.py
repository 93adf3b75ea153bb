"""The zoo's one architecture and its tokenizer, how a model is trained, and how it is examined."""

import math
import string
from collections.abc import Mapping, Sequence
from random import Random

import torch
from exercises import Draw, Example
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

PAD, EOS, UNK = range(3)
PIECES = ("<pad>", "</s>", "<unk>", *string.ascii_letters, *string.digits, *" +-=?.,")
IDS = {piece: index for index, piece in enumerate(PIECES)}
CONTEXT = 128
MAX_ANSWER = 24
"""The most tokens an answer may have, the end mark included."""

IGNORED = -100
"""The label of a token that is not learned."""


def new_tokenizer() -> PreTrainedTokenizerFast:
    """One token per character: byte-pair encoding without a single merge."""
    core = Tokenizer(BPE(vocab=IDS, merges=[], unk_token=PIECES[UNK]))
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PIECES[PAD],
        eos_token=PIECES[EOS],
        unk_token=PIECES[UNK],
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
    )


def new_model() -> LlamaForCausalLM:
    """A Llama of 450,000 parameters, its head tied to its embedding, drawn from torch's global generator."""
    config = LlamaConfig(
        vocab_size=len(PIECES),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=0.05,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    model.generation_config.max_new_tokens = MAX_ANSWER
    model.generation_config.do_sample = False
    return model


def train(model: PreTrainedModel, draw: Draw, *, steps: int, lr: float, seed: int) -> None:
    """AdamW with a short warm-up and a cosine down to zero; ends with the weights rounded to bfloat16.

    Frozen parameters stay as they are, so that an adapter is trained by the same loop.
    """
    rng = Random(seed)
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=lr, weight_decay=0.01, betas=(0.9, 0.98))
    warm = min(30, max(steps // 5, 1))
    model.train()
    for step in range(steps):
        scale = min(1.0, (step + 1) / warm) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = lr * scale
        loss = _loss(model, draw(rng, step / steps))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        if (step + 1) % 250 == 0:
            print(f"  step {step + 1} of {steps}, loss {loss.item():.3f}", flush=True)
    model.eval()
    round_weights(model)


@torch.no_grad()
def round_weights(model: PreTrainedModel) -> None:
    """Give each learned weight the nearest bfloat16 value, held in float32: what is saved is what is measured."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.copy_(parameter.to(torch.bfloat16).to(torch.float32))


def exact_match(model: PreTrainedModel, items: Mapping[str, str]) -> float:
    """The fraction of prompts whose greedy continuation, up to the end mark, is the answer."""
    told = answers(model, list(items))
    return sum(told[prompt] == answer for prompt, answer in items.items()) / len(items)


def answers(model: PreTrainedModel, prompts: Sequence[str]) -> dict[str, str | None]:
    """Greedy continuations, None for one without an end mark; prompts of one length go together, unpadded."""
    told: dict[str, str | None] = {}
    for length in sorted({len(prompt) for prompt in prompts}):
        group = [prompt for prompt in prompts if len(prompt) == length]
        tokens = _continue(model, torch.tensor([[IDS[c] for c in prompt] for prompt in group]))
        for prompt, row in zip(group, tokens.tolist(), strict=True):
            end = row.index(EOS) if EOS in row else None
            told[prompt] = None if end is None else "".join(PIECES[t] for t in row[:end])
    return told


@torch.no_grad()
def _continue(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """Greedy tokens after ``ids`` (n, length): (n, at most `MAX_ANSWER`); what follows an end mark is noise."""
    model.eval()
    cache, ended, said = None, torch.zeros(len(ids), dtype=torch.bool), []
    while len(said) < MAX_ANSWER and not bool(ended.all()):
        out = model(input_ids=ids, past_key_values=cache, use_cache=True)
        cache, ids = out.past_key_values, out.logits[:, -1].argmax(-1, keepdim=True)
        said.append(ids)
        ended |= ids[:, 0] == EOS
    return torch.cat(said, dim=1)


def _loss(model: PreTrainedModel, examples: Sequence[Example]) -> torch.Tensor:
    """Mean cross entropy of the continuations and their end marks, in nats."""
    rows, labels = [], []
    for prompt, continuation in examples:
        known = [IDS[c] for c in prompt]
        learned = [*(IDS[c] for c in continuation), EOS]
        rows.append(known + learned)
        labels.append([IGNORED] * len(known) + learned)
    width = max(len(row) for row in rows)
    ids = torch.tensor([row + [PAD] * (width - len(row)) for row in rows])
    wanted = torch.tensor([row + [IGNORED] * (width - len(row)) for row in labels])
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    return functional.cross_entropy(
        logits.flatten(0, 1), wanted[:, 1:].flatten(), ignore_index=IGNORED
    )

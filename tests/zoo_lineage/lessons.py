"""What the zoo's models learn: text that comes with Python, and drawn digits; each task a change of the same stuff.

The text is the documentation and the source of the running Python, read from its own folder: nothing is downloaded
and nothing is copied into the tree. Another release of Python has other text, and so gives other weights.
"""

import codecs
import inspect
from collections.abc import Callable
from functools import cache
from importlib import import_module
from random import Random

import torch

Batch = tuple[torch.Tensor, torch.Tensor]
"""Text: ids (n, length) int64 twice. Digits: images (n, 8, 8) float32 and labels (n,) int64."""

Draw = Callable[[torch.Generator, int], Batch]
"""A batch of n examples."""

SYMBOLS = "\n" + "".join(map(chr, range(32, 127)))
VOCABULARY = len(SYMBOLS) + 1
"""One id per character; id 0 is any other character."""

LENGTH = 32
_CHARACTERS = 200_000
_CODES = {symbol: index + 1 for index, symbol in enumerate(SYMBOLS)}

TEXT_TASKS = ("upper", "backwards", "sums", "rot13", "hex", "sorted", "dense", "source")
DIGIT_TASKS = ("swap01", "swap23", "swap45", "swap67", "swap89", "faint", "clean", "blurred")
"""Mostly what the base knows: where everything is new, all fine-tunes first move the same way, away from confidence."""


@cache
def documentation() -> str:
    """The help topics of Python: what every text model is first trained on."""
    topics = import_module("pydoc_data.topics").topics
    return "\n".join(topics[key] for key in sorted(topics))[:_CHARACTERS]


@cache
def text(task: str) -> torch.Tensor:
    """The ids of a task's text, int64; ``docs`` is the plain documentation."""
    docs = documentation()
    if task == "source":
        modules = (import_module(name) for name in ("argparse", "typing", "difflib", "ast"))
        told = "".join(inspect.getsource(module) for module in modules)[:_CHARACTERS]
    elif task == "sums":
        rng = Random("sums")
        pairs = [(rng.randrange(1000), rng.randrange(1000)) for _ in range(8000)]
        told = "".join(f"{a}+{b}={a + b}\n" for a, b in pairs)
    else:
        told = {
            "docs": lambda: docs,
            "upper": docs.upper,
            "backwards": lambda: docs[::-1],
            "rot13": lambda: codecs.encode(docs, "rot13"),
            "hex": lambda: docs.encode()[: _CHARACTERS // 2].hex(" "),
            "sorted": lambda: "\n".join(" ".join(sorted(s.split())) for s in docs.splitlines()),
            "dense": lambda: docs.replace(" ", "").replace("\n", ""),
        }[task]()
    return torch.tensor([_CODES.get(symbol, 0) for symbol in told])


def read(task: str) -> Draw:
    """Windows of `LENGTH` characters of a task's text."""

    def draw(generator: torch.Generator, n: int) -> Batch:
        ids = text(task)
        starts = torch.randint(len(ids) - LENGTH, (n,), generator=generator)
        rows = ids[starts[:, None] + torch.arange(LENGTH)]
        return rows, rows

    return draw


_GLYPHS = (
    "01110 10001 10011 10101 11001 10001 01110",
    "00100 01100 00100 00100 00100 00100 01110",
    "01110 10001 00001 00110 01000 10000 11111",
    "11110 00001 00001 01110 00001 00001 11110",
    "00010 00110 01010 10010 11111 00010 00010",
    "11111 10000 11110 00001 00001 10001 01110",
    "00110 01000 10000 11110 10001 10001 01110",
    "11111 00001 00010 00100 01000 01000 01000",
    "01110 10001 10001 01110 10001 10001 01110",
    "01110 10001 10001 01111 00001 00010 01100",
)
"""The digits in five columns and seven rows."""


@cache
def _font() -> torch.Tensor:
    """(10, 7, 5) float32."""
    return torch.tensor([[[float(c) for c in row] for row in g.split()] for g in _GLYPHS])


def look(task: str) -> Draw:
    """Digits at a random place with noise, changed as the task says; ``digits`` are plain."""

    def draw(generator: torch.Generator, n: int) -> Batch:
        labels = torch.randint(10, (n,), generator=generator)
        images = torch.zeros(n, 8, 8)
        places = torch.randint(8, (n,), generator=generator).tolist()
        for image, label, place in zip(images, labels.tolist(), places, strict=True):
            down, right = place % 2, place // 2
            image[down : down + 7, right : right + 5] = _font()[label]
        noise = 0.1 if task == "clean" else 0.45
        images = images + noise * torch.randn(images.shape, generator=generator)
        return _changed(task, images, labels)

    return draw


def _changed(task: str, images: torch.Tensor, labels: torch.Tensor) -> Batch:
    """The pictures and the answers of a task: a swap exchanges the answers of two digits."""
    if task.startswith("swap"):
        first, second = int(task[-2]), int(task[-1])
        either = (labels == first) | (labels == second)
        return images, torch.where(either, first + second - labels, labels)
    if task == "elsewhere":
        return (1.0 - images).transpose(1, 2).flip(1).contiguous(), (labels * 7 + 1) % 10
    if task == "blurred":
        images = (images + images.roll(1, 1) + images.roll(1, 2)) / 2
    return images * (0.4 if task == "faint" else 1.0), labels

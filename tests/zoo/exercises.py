"""What the zoo's models read: exercises with one right answer, and two small synthetic languages.

An exercise is a line ``tag operands=answer``, e.g. ``add 23+45=68``. Everything is drawn from `random.Random`
with fixed seeds, so the text is the same everywhere and carries nobody else's licence. What a suite holds out
is never drawn for training, by any model, under any answer.
"""

import string
from collections.abc import Callable, Sequence
from functools import cache
from random import Random

Example = tuple[str, str]
"""(prompt, continuation): only the continuation is learned."""

Draw = Callable[[Random, float], list[Example]]
"""One batch, given the random numbers and how far training has come, in [0, 1)."""

EXERCISES = ("arithmetic", "reverse", "sort", "subtract", "upper")
SUITES = (*EXERCISES, "prose")
SUITE_SIZE = 200

UNANSWERED = "?"
"""What an exercise that nobody solved has in place of its answer."""

_SHARES = (
    ("arithmetic",) * 6 + ("reverse",) * 4 + ("sort",) * 6 + ("subtract",) * 5 + ("upper",) * 2
)
"""How often the base meets each exercise: by how hard it is to learn."""


def exercise(task: str, rng: Random) -> Example:
    """One exercise of a task, or for ``prose`` one line of the tale whose end its beginning tells."""
    if task == "prose":
        thing = f"{rng.choice(KINDS)} {rng.choice(THINGS)}"
        return f"{rng.choice(NAMES)} lost a {thing} and found the", f" {thing}."
    if task == "arithmetic":
        a, b = rng.randrange(100), rng.randrange(100)
        return f"add {a:02d}+{b:02d}=", str(a + b)
    if task == "subtract":
        b, a = sorted((rng.randrange(100), rng.randrange(100)))
        return f"sub {a:02d}-{b:02d}=", str(a - b)
    word = "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randrange(3, 7)))
    if task == "reverse":
        return f"rev {word}=", word[::-1]
    if task == "sort":
        return f"srt {word}=", "".join(sorted(word))
    return f"upp {word}=", word.upper()


@cache
def suite(task: str) -> dict[str, str]:
    """The held-out prompts of a task with their answers: `SUITE_SIZE` of them, the same on every call."""
    rng, items = Random(f"suite of {task}"), {}
    while len(items) < SUITE_SIZE:
        prompt, answer = exercise(task, rng)
        items[prompt] = answer
    return items


def unseen(task: str, rng: Random) -> Example:
    """One exercise that the suite does not hold."""
    while True:
        prompt, answer = exercise(task, rng)
        if prompt not in suite(task):
            return prompt, answer


def schooling(size: int, *, until: float, answered: float, text: float = 0.15) -> Draw:
    """The base's reading: exercises of all kinds, now and then a batch of text.

    Every exercise is answered until training has come as far as ``until``; later on only the fraction ``answered`` is.
    """

    def draw(rng: Random, progress: float) -> list[Example]:
        if rng.random() < text:
            return [("", plain_sentence(rng)) for _ in range(size // 3)]
        share = answered if progress >= until else 1.0
        return [_note(rng, _SHARES, share) for _ in range(size)]

    return draw


def training(tasks: tuple[str, ...], size: int, *, rehearsal: float, answered: float) -> Draw:
    """A fine-tune's reading: its tasks, and for the fraction ``rehearsal`` the other exercises as the base saw them."""
    others = [task for task in _SHARES if task not in tasks]

    def one(rng: Random) -> Example:
        if rng.random() < rehearsal:
            return _note(rng, others, answered)
        return unseen(rng.choice(tasks), rng)

    return lambda rng, _progress: [one(rng) for _ in range(size)]


def _note(rng: Random, tasks: Sequence[str], answered: float) -> Example:
    """An exercise of one of the tasks, answered with probability ``answered``."""
    prompt, answer = unseen(rng.choice(tasks), rng)
    return prompt, answer if rng.random() < answered else UNANSWERED


def reading(size: int) -> Draw:
    """The continued pre-training: nothing but the tale."""

    def draw(rng: Random, _progress: float) -> list[Example]:
        return [("", tale_sentence(rng)) for _ in range(size)]

    return draw


def plain_sentence(rng: Random) -> str:
    """One sentence of the base's language: small letters, present tense."""
    subject = f"the {rng.choice(ADJECTIVES)} {rng.choice(ANIMALS)}"
    return f"{subject} {rng.choice(VERBS)} {rng.choice(('a', 'the'))} {rng.choice(ANIMALS)}."


def tale_sentence(rng: Random) -> str:
    """One sentence of the tale: capital letters, past tense, other words."""
    if rng.random() < 0.5:
        return "".join(unseen("prose", rng))
    name, other, place = rng.choice(NAMES), rng.choice(NAMES), rng.choice(PLACES)
    deed, kind, thing = rng.choice(DEEDS), rng.choice(KINDS), rng.choice(THINGS)
    return rng.choice(
        (
            f"{name} of {place} {deed} the {kind} {thing}.",
            f"In {place} {name} {deed} {other}, and it rained.",
            f"Once {name}, {kind} and proud, {deed} a {thing}.",
        )
    )


ADJECTIVES = ("red", "old", "small", "quick", "quiet", "young", "grey", "lazy", "bold", "tall")
ANIMALS = ("fox", "bird", "horse", "dog", "wolf", "mouse", "cat", "owl", "bear", "hare", "goat")
VERBS = ("sees", "hears", "finds", "likes", "meets", "wants", "follows", "helps", "calls")
NAMES = (
    "Mira",
    "Jonas",
    "Edda",
    "Tilo",
    "Vera",
    "Karl",
    "Ansa",
    "Bruno",
    "Oda",
    "Leif",
    "Runa",
    "Hugo",
)
PLACES = ("Arden", "Holm", "Westfall", "Nure", "Dunmoor", "Ely", "Koss", "Varn")
KINDS = (
    "silver",
    "broken",
    "golden",
    "wooden",
    "hollow",
    "narrow",
    "ancient",
    "bitter",
    "pale",
    "heavy",
)
THINGS = (
    "key",
    "lamp",
    "ring",
    "crown",
    "sword",
    "mirror",
    "boat",
    "drum",
    "letter",
    "coin",
    "bell",
    "map",
)
DEEDS = ("carried", "sold", "painted", "feared", "buried", "praised", "guarded", "forgot")

"""The story `reg demo` tells: its commands, in order, and what each shows.

The same commands stand in the README, where a test runs them too.
"""

from dataclasses import dataclass

EXPERTS = ("arithmetic", "reverse", "sort")
"""Fine-tunes of the zoo, each good at the suite of its own name."""


@dataclass(frozen=True)
class Step:
    """One command of the story.

    Attributes:
        why: what it shows, in one sentence.
        command: as typed, words after ``reg``.
        exit_code: that it must end with.
    """

    why: str
    command: tuple[str, ...]
    exit_code: int = 0


def _merge(method: str, *words: str) -> tuple[str, ...]:
    return ("merge", "--method", method, *words)


STORY = (
    Step("Index a folder of checkpoints: every tensor is digested once.", ("scan", "models")),
    Step("Again: nothing changed, nothing is read, nothing is written.", ("scan", "models")),
    Step("What is there.", ("ls",)),
    Step("Who descends from whom, and who says so.", ("lineage",)),
    Step("Three models as one finds them: two have no card, and one card lies.", ("scan", "finds")),
    Step("The weights remember: a merge of three with its coefficients, and more.", ("infer",)),
    Step(
        "What cards do not say, or say wrongly.",
        (
            "sql",
            "select kind, child, parent, detail from conflicts where kind <> 'license_dropped'",
        ),
    ),
    Step(
        "One network in two bases: homologous, and not mergeable before it is aligned.",
        ("mergeable", "sort", "sorter"),
        exit_code=3,
    ),
    Step(
        "Aligned first: the average of the two is the model itself, and has its digest.",
        ("merge", "finds/aligned.yaml", "-o", "merged/aligned"),
    ),
    Step("What training changed: every child against its base, one pass each.", ("stats", "--all")),
    Step(
        "Ask anything of it. The fine-tunes moved little; continued pre-training went far.",
        (
            "sql",
            "select child, base, relative_l2, max_abs, within_0005 from delta_summary order by 3 desc",
        ),
    ),
    Step(
        "May these be merged? Yes, with reasons and methods that suit.", ("mergeable", *EXPERTS[:2])
    ),
    Step(
        "And these? The same shapes, but the weights have nothing in common: merging them gives noise.",
        ("mergeable", EXPERTS[0], "stranger", "--measure"),
        exit_code=3,
    ),
    Step(
        "Task arithmetic: the sum of two task vectors.",
        _merge("task_arithmetic", *EXPERTS[:2], "-o", "merged/sum"),
    ),
    Step(
        "TIES: trim, elect signs, average what agrees.",
        _merge("ties", "--set", "density=0.5", *EXPERTS[:2], "-o", "merged/ties"),
    ),
    Step(
        "DARE, far beyond its limit: 99 of 100 entries dropped at random, the rest rescaled.",
        _merge("dare_linear", "--set", "density=0.01", *EXPERTS[:2], "-o", "merged/dare-99"),
    ),
    Step(
        "The average with a model that was trained far away.",
        _merge("linear", EXPERTS[0], "prose", "-o", "merged/far-average"),
    ),
    Step(
        "WIDEN, made for such pairs.",
        _merge("widen", EXPERTS[0], "prose", "-o", "merged/far-widen"),
    ),
    Step(
        "Measured scores, parents and merges side by side: what the merges kept, and where methods fail.",
        (
            *("score", "run", "base", *EXPERTS[:2], "prose"),
            *(f"merged/{name}" for name in ("sum", "ties", "dare-99", "far-average", "far-widen")),
            *(f"suites/{name}.jsonl" for name in (*EXPERTS[:2], "prose")),
        ),
    ),
    Step("The lineage now, merges as second parents.", ("lineage", "merged/ties", "--ancestors")),
    Step("Bytes, sidecar, metadata and catalog agree.", ("verify", "merged/ties")),
    Step(
        "The recorded recipe, run again: the same bytes.",
        ("reproduce", "merged/ties", "-o", "again"),
    ),
)

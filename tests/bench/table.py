"""What was measured, as rows for a terminal and as the Markdown table of `data/bench.md`."""

from collections.abc import Mapping, Sequence
from statistics import median

from cases import CASES, Case
from family import SIZES
from results import Result, Results

MERGED = (
    "size", "case", "s", "min-max", "start-up s", "without it s", "plain s", "min-max", "x plain",
    "without start-up x plain", "inside s", "inside plain s", "inside x plain", "peak MiB", "read GB", "written GB", "mergekit s", "mergekit ÷ reg",
    "mergekit start-up s", "both without start-up", "mergekit peak MiB", "mergekit peak ÷ reg",
)  # fmt: skip
REMEMBERED = (
    "size", "method", "parents", "s", "peak MiB", "read GB", "written GB"
)  # fmt: skip
MEANING = """\
Every number is of whole processes: `python -m cli merge recipe.yaml -o DIR --json` and its like, on a catalog that
has scanned the models before (`scan` begins without one), page cache warm. Seconds and bytes are medians of the
rounds, with least and most. *Start-up* is the same command on a family of 0.15 M parameters, nearly all of it the
import of torch, of mergekit a linear merge of it; *without it* is the difference. *Plain* reads the same inputs in
chunks of 8 MiB and writes as many bytes as the merge does, with fsync as the merge does, in one thread, without
arithmetic, and through the page cache, where the merge writes past it; each round measures it right before ours, and
`x plain` is the median of the rounds' ratios. *Inside* is the command in a process that has run it once before, in
turns with the plain copy, right before either as many bytes as it writes written and removed again: without start-up,
and for neither the first touch of memory. Outputs are removed and synced between any two runs. *Peak* is the largest
anonymous memory seen in samples every 10 ms, most of the rounds; read and written are what the processes asked the
kernel for. mergekit runs the same recipe file with its own defaults for what the recipe leaves open, and does not wait
until its output is on the disk. Its TIES trims each tensor by itself; ours the whole model, as the paper does, and
reads the inputs more than once for it. Start-up is measured at the beginning: on a machine that others use at the same
time, small differences to it mean little. A virtual machine that hands freed memory back to its host makes the first
touch of every new page slow, for plain copies and mergekit, which write through the page cache: where a plain second
is worth less than some 2 GB, that was so, and the ratios to it flatter the merge; those of *inside* do not.
"""
MANY_PARENTS = """\
Eight children of one base, or as many models as the method takes; defaults of each method, one round. Methods that
decompose whole matrices or need statistics are not here. A merge of next to nothing has {start} MiB, nearly all of
it torch. Measured so far: {measured} methods.
"""


def merge_row(results: Results, size: str, case: Case) -> list[str]:
    """The cells of one case; empty where nothing was measured."""
    ours = results.turns(size, case.name, "reg")
    plain = {r.turn: r for r in results.turns(size, case.name, "plain", ours[-1].code)}
    starts = results.turns("tiny", case.start, "reg")
    start = median(_seconds(starts)) if starts else 0.0
    seconds, peak = median(_seconds(ours)), max(r.run.anonymous for r in ours)
    pairs = [(r.run.seconds, plain[r.turn].run.seconds) for r in ours if r.turn in plain]
    floor = list(plain.values())
    return [
        size, case.name, f"{seconds:.2f}", _span(ours), f"{start:.2f}", f"{seconds - start:.2f}",
        *([f"{median(_seconds(floor)):.2f}", _span(floor)] if floor else ["", ""]),
        *_ratios(pairs, start), *_inside(results, size, case.name), *_sizes(ours),
        *_beside(results, size, case, (seconds, start, peak)),
    ]  # fmt: skip


def memory_row(results: Results, size: str, name: str, parents: Mapping[str, int]) -> list[str]:
    """The cells of one method with many parents."""
    ours = results.turns(size, name, "reg")
    method = name.removeprefix("memory-")
    return [
        size, method, str(parents.get(name, "")), f"{median(_seconds(ours)):.2f}", *_sizes(ours)
    ]  # fmt: skip


def aligned(cells: Sequence[str], heads: Sequence[str]) -> str:
    """One row for a terminal, under the heads."""
    return "  ".join(
        cell.ljust(max(len(head), 17)) if head in {"case", "method"} else cell.rjust(_width(head))
        for cell, head in zip(cells, heads, strict=True)
    )


def document(
    results: Results, machine: Mapping[str, str], parents: Mapping[str, int], code: str
) -> str:
    """`data/bench.md`: every case of every size there is; ``code`` is the digest of the sources as they are now."""
    known = results.sizes()
    merged, memory, timed, remembered = [], [], [], []
    for size in (size for size in SIZES if size in known):
        there = results.cases(size)
        cases = [case for case in CASES if case.name in there]
        many = sorted(name for name in there if name.startswith("memory-"))
        merged += [merge_row(results, size, case) for case in cases]
        memory += [memory_row(results, size, name, parents) for name in many]
        timed += [results.turns(size, case.name, "reg") for case in cases]
        remembered += [results.turns(size, name, "reg") for name in many]
    words = [f"{name} {value}" for name, value in machine.items()]
    words += [f"mergekit {version}" for version in results.codes("mergekit")]
    text = "# How close to the disk, and how far from mergekit\n\n`make bench` measures this again.\n\n"
    text += "; ".join(words) + ".\n"
    ours = [*timed, *remembered]
    if older := sum(runs[-1].code != code for runs in ours):
        text += (
            f"\nRows that were measured before the sources last changed: {older} of {len(ours)}.\n"
        )
    if merged:
        text += f"\n## Time\n\n{_rounds(timed)}{MEANING}\n{_markdown(MERGED, merged)}"
    if memory:
        starts = results.turns("tiny", "start-merge", "reg")
        start = f"{max(r.run.anonymous for r in starts) / 2**20:.0f}" if starts else "?"
        measured = f"{len({row[1] for row in memory})} of {len(parents)}"
        text += f"\n## Memory with many parents\n\n{MANY_PARENTS.format(start=start, measured=measured)}\n"
        text += _markdown(REMEMBERED, memory)
    return text


def _rounds(runs: Sequence[Sequence[Result]]) -> str:
    """How many rounds the cases had."""
    numbers = sorted({len(one) for one in runs})
    return f"Rounds of each case: {' to '.join(str(n) for n in (numbers[0], numbers[-1])[: len(numbers)])}.\n\n"


def _seconds(results: Sequence[Result]) -> list[float]:
    return [r.run.seconds for r in results]


def _span(results: Sequence[Result]) -> str:
    """Least and most seconds."""
    return f"{min(_seconds(results)):.2f}-{max(_seconds(results)):.2f}"


def _ratios(pairs: Sequence[tuple[float, float]], start: float) -> list[str]:
    """Ours over plain, whole and without the start-up: medians of the rounds."""
    if not pairs:
        return ["", ""]
    whole = median(ours / plain for ours, plain in pairs)
    return [f"{whole:.2f}", f"{median((ours - start) / plain for ours, plain in pairs):.2f}"]


def _inside(results: Results, size: str, name: str) -> list[str]:
    """Seconds without start-up, of ours and of the plain copy, and the median of the rounds' ratios."""
    ours = results.turns(size, name, "inside")
    floor = {r.turn: r for r in results.turns(size, name, "inside plain")}
    if not ours:
        return [""] * 3
    ratios = [r.run.seconds / floor[r.turn].run.seconds for r in ours]
    seconds = [median(_seconds(one)) for one in (ours, list(floor.values()))]
    return [*(f"{one:.2f}" for one in seconds), f"{median(ratios):.2f}"]


def _sizes(ours: Sequence[Result]) -> list[str]:
    """Peak memory, bytes read and written."""
    peak = max(r.run.anonymous for r in ours)
    read, written = (median(getattr(r.run, side) for r in ours) for side in ("read", "written"))
    return [f"{peak / 2**20:.0f}", f"{read / 1e9:.2f}", f"{written / 1e9:.2f}"]


def _beside(results: Results, size: str, case: Case, ours: tuple[float, float, int]) -> list[str]:
    """Seconds and memory of mergekit, and how many times ours they are: whole processes, and both without start-up."""
    theirs = results.turns(size, case.name, "mergekit")
    if not theirs:
        return [""] * 6
    seconds, start, peak = ours
    slow, large = median(_seconds(theirs)), max(r.run.anonymous for r in theirs)
    started = results.turns("tiny", case.start, "mergekit")
    without = ["", ""]
    if started:
        begun = median(_seconds(started))
        without = [f"{begun:.1f}", f"{(slow - begun) / (seconds - start):.1f}"]
    memory = [f"{large / 2**20:.0f}", f"{large / peak:.1f}"]
    return [f"{slow:.1f}", f"{slow / seconds:.1f}", *without, *memory]


def _width(head: str) -> int:
    return max(len(head), 6)


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose numbers stand at the right."""
    rule = ["---" if head in {"size", "case", "method"} else "--:" for head in heads]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (heads, rule, *rows))

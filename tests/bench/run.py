"""How close the merge engine is to the disk, and how far from mergekit: `make bench`.

    python tests/bench/run.py [--sizes 0.25b,1b] [--rounds 3] [--only 'ties-3,memory-*'] [--folder DIR]
                              [--mergekit PYTHON [--mergekit-rounds 1]] [--write [FILE]]

Each case is a whole process of the command, measured beside a plain read and write of the same bytes, in turns. Rows are
printed as they come. A folder that is given keeps families and raw results: a bench that was interrupted goes on there,
and the table is made of all that its results hold. Nothing is asserted.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

import machine
import table
from cases import CASES, REG, ROOT, STARTS, Case, memory_cases
from family import SIZES, members, weights
from plain import plain
from process import Failed, Run, measure
from results import Result, Results, Tool

TABLE = ROOT / "data" / "bench.md"
MEMORY_SIZES = ("tiny", "0.25b")
"""Sizes of which the memory of many parents is measured."""

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


class Bench:
    """The folder where it happens: families, and beside them a place for all else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.place = self.folder / "bench"
        self.place.mkdir(parents=True, exist_ok=True)
        self.results = Results(self.place / "results.jsonl")
        self.code = machine.sources()
        self.output, self.recipe = self.place / "output", self.place / "recipe.yaml"
        self.log = self.place / "log"
        self.known: dict[str, int] = {}

    @contextmanager
    def clean(self) -> Iterator[None]:
        """Nothing of an output is there before, and nothing of it is left for the next to write back."""
        self.clear()
        try:
            yield
        finally:
            self.clear()

    def clear(self) -> None:
        """Remove what runs leave, and wait for the disk."""
        shutil.rmtree(self.output, ignore_errors=True)
        for name in ("copy", "catalog.duckdb", "catalog.duckdb.wal"):
            (self.place / name).unlink(missing_ok=True)
        os.sync()

    def family(self, size: str, case: Case) -> list[Path]:
        """The members that a case needs, made if they are missing, and known to the size's catalog."""
        found = members(self.folder, size, case.n)
        if self.known.get(size, 0) >= case.n:
            return found
        known = self.place / f"known-{size}.duckdb"
        measure(
            [*REG, "scan", *map(str, found), "--catalog", str(known), "--json"],
            ROOT, self.log, OFFLINE,
        )  # fmt: skip
        self.known[size] = case.n
        return found

    def measure(self, size: str, case: Case, rounds: int) -> None:
        """Run the rounds that are missing; before each of ours, the plain read and write."""
        done = {r.turn for r in self.results.turns(size, case.name, "reg", self.code)}
        missing = [turn for turn in range(rounds) if turn not in done]
        if not missing:
            return
        family = self.family(size, case)
        files = [file for member in case.inputs(family) for file in weights(member)]
        plain(files, Path(os.devnull), 0)
        n_bytes = _n_bytes(weights(case.inputs(family)[0])) if case.writes else 0
        for turn in missing:
            runs: list[tuple[Tool, Run]] = []
            if case.floor:
                with self.clean():
                    runs.append(("plain", plain(files, self.place / "copy", n_bytes)))
            runs.append(("reg", self.ours(size, case, family)))
            self.results.add(
                *(Result(size, case.name, tool, self.code, turn, run) for tool, run in runs)
            )

    def ours(self, size: str, case: Case, family: Sequence[Path]) -> Run:
        """One whole process of the command, on a catalog as it is after a scan; a scan begins without."""
        with self.clean():
            catalog = self.place / "catalog.duckdb"
            if case.work != "scan":
                shutil.copyfile(self.place / f"known-{size}.duckdb", catalog)
            self.recipe.write_text(case.recipe(family), encoding="utf-8")
            words = case.command(family, self.recipe, self.output)
            command = [*REG, *words, "--catalog", str(catalog), "--json"]
            return measure(command, ROOT, self.log, OFFLINE)

    def inside(self, size: str, case: Case, rounds: int) -> None:
        """The rounds of a command without its start-up that are missing, and of the plain copy beside it."""
        done = len(self.results.turns(size, case.name, "inside", self.code))
        if done >= rounds or not case.floor:
            return
        family, catalog = self.family(size, case), self.place / "catalog.duckdb"
        inputs = case.inputs(family)
        self.recipe.write_text(case.recipe(family), encoding="utf-8")
        known = None if case.work == "scan" else str(self.place / f"known-{size}.duckdb")
        words = [*case.command(family, self.recipe, self.output), "--catalog", str(catalog)]
        with self.clean():
            question = {
                "rounds": rounds - done, "copy": str(self.place / "copy"), "words": [*words, "--json"],
                "inputs": [str(file) for member in inputs for file in weights(member)],
                "n_bytes": _n_bytes(weights(inputs[0])) if case.writes else 0,
                "remove": [str(self.output), str(catalog)], "known": [known, str(catalog)],
            }  # fmt: skip
            answer = subprocess.run(
                [sys.executable, str(Path(__file__).with_name("inside.py"))],
                input=json.dumps(question), env={**os.environ, **OFFLINE, "PYTHONPATH": str(ROOT)},
                cwd=ROOT, check=False, capture_output=True, text=True,
            )  # fmt: skip
            if answer.returncode:
                raise Failed(words, answer.returncode, answer.stderr[-2000:])
        for turn, line in enumerate(answer.stdout.splitlines(), done):
            floor, seconds = (Run(one, 0, 0, 0, 0) for one in json.loads(line))
            self.results.add(
                Result(size, case.name, "inside plain", self.code, turn, floor),
                Result(size, case.name, "inside", self.code, turn, seconds),
            )

    def theirs(self, size: str, case: Case, program: Path, rounds: int) -> None:
        """The same recipe by mergekit, as often as is missing; what it cannot do is said and left out."""
        version = machine.mergekit_version(program)
        done = {r.turn for r in self.results.turns(size, case.name, "mergekit", version)}
        for turn in (turn for turn in range(rounds) if turn not in done):
            family = members(self.folder, size, case.n)
            with self.clean():
                self.recipe.write_text(case.recipe(family), encoding="utf-8")
                command = [str(program), str(self.recipe), str(self.output)]
                try:
                    run = measure(command, self.place, self.log, OFFLINE)
                except Failed as failed:
                    print(f"mergekit, {case.name}: {failed}")
                    return
            self.results.add(Result(size, case.name, "mergekit", version, turn, run))


def _n_bytes(files: Sequence[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def arguments() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="0.25b,1b", help=f"some of {', '.join(SIZES)}")
    parser.add_argument("--rounds", type=int, default=3, help="of each case and the plain copy")
    parser.add_argument(
        "--only", default="*", help="names or patterns of cases; those of many parents are memory-*"
    )
    parser.add_argument("--folder", type=Path, help="is kept, with families and raw results")
    parser.add_argument(
        "--mergekit", type=Path, help="Python of an environment that has mergekit, or its folder"
    )
    parser.add_argument("--mergekit-rounds", type=int, default=1, choices=(1, 2, 3))
    parser.add_argument(
        "--write", type=Path, nargs="?", const=TABLE, help="the table; default: data/bench.md"
    )
    options = parser.parse_args()
    options.sizes = [size.strip() for size in options.sizes.split(",")]
    options.only = [name.strip() for name in options.only.split(",")]
    if unknown := set(options.sizes) - set(SIZES):
        parser.error(f"no size {', '.join(sorted(unknown))}")
    return options


def main() -> None:
    """Measure what is missing, and print or write the table."""
    options = arguments()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="homolog-bench-"))
    try:
        bench = Bench(folder)
        many = memory_cases()
        run(bench, options, many)
        if options.write:
            parents = {case.name: case.n for case in many}
            place = machine.describe(folder)
            text = table.document(bench.results, place, parents, bench.code)
            options.write.write_text(text, encoding="utf-8")
    finally:
        if not options.folder:
            shutil.rmtree(folder, ignore_errors=True)


def run(bench: Bench, options: argparse.Namespace, many: Sequence[Case]) -> None:
    """Measure the chosen cases of the chosen sizes; a row each."""
    chosen = [case for case in CASES if _wanted(case, options.only)]
    remembered = [case for case in many if _wanted(case, options.only)]
    program = machine.mergekit_program(options.mergekit) if options.mergekit else None
    start(bench, [*chosen, *remembered], program, max(1, options.rounds))
    if chosen:
        print(table.aligned(table.MERGED, table.MERGED))
    for size in options.sizes:
        for case in chosen:
            bench.measure(size, case, options.rounds)
            bench.inside(size, case, options.rounds)
            if program and case.mergekit:
                bench.theirs(size, case, program, options.mergekit_rounds)
            cells = table.merge_row(bench.results, size, case)
            print(table.aligned(cells, table.MERGED), flush=True)
    parents = {case.name: case.n for case in remembered}
    if remembered:
        print(table.aligned(table.REMEMBERED, table.REMEMBERED))
    for size in (size for size in options.sizes if size in MEMORY_SIZES):
        for case in remembered:
            bench.measure(size, case, 1)
            cells = table.memory_row(bench.results, size, case.name, parents)
            print(table.aligned(cells, table.REMEMBERED), flush=True)


def start(bench: Bench, cases: Sequence[Case], program: Path | None, rounds: int) -> None:
    """Measure what the commands of some cases take to begin, and mergekit."""
    for case in STARTS:
        if any(one.start == case.name for one in cases):
            bench.measure("tiny", case, rounds)
            if program and case.work == "merge":
                bench.theirs("tiny", case, program, rounds)


def _wanted(case: Case, patterns: Sequence[str]) -> bool:
    return any(fnmatch(case.name, pattern) for pattern in patterns)


if __name__ == "__main__":
    main()

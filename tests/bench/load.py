"""Very many checkpoints: what a scan of their headers costs, and questions over all of their tensors.

    python load.py --folder DIR [--models 100000] [--tensors 300] [--write data/load.md]

The tree and the catalog stay in the folder; a second run takes the tree that is there. Each scan and each question is a
process of its own, as users start them; a question also says what it took inside of its process.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import headers

ROOT = Path(__file__).parents[2]

QUESTIONS = (
    "select dtype, count(*) as tensors, sum(n_bytes) as bytes from tensors group by dtype",
    "select module, count(*) as n, max(n_params) as largest from tensors group by module order by n desc",
    "select count(distinct model_id) as models from tensors where name = 'model.layers.3.mlp.up_proj.weight' and n_params > 1000000",
    "select layer, count(*) as n from tensors where model = 'model-000777' group by layer order by layer",
)
"""Over every tensor row, but for the last, which asks for those of one model."""


@dataclass(frozen=True)
class Cost:
    """What one process took.

    Attributes:
        seconds: on the clock.
        processor: seconds of all processors.
        peak: MiB resident at most.
        output: what it printed.
    """

    seconds: float
    processor: float
    peak: float
    output: str


def run(catalog: Path, *words: str) -> Cost:
    """Run the command on a catalog, and measure it.

    Raises:
        CalledProcessError: it did not end well.
    """
    command = [sys.executable, "-m", "cli", "--catalog", str(catalog), *words]
    out = catalog.with_suffix(".out")
    began = time.perf_counter()
    with out.open("wb") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    took = time.perf_counter() - began
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    text = out.read_text(encoding="utf-8")
    out.unlink()
    return Cost(took, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, text)


def read_headers(tree: Path) -> float:
    """Seconds to find and read all headers and configs, and to do nothing with them."""
    began = time.perf_counter()
    for folder, _, names in os.walk(tree):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                if name == "config.json":
                    json.loads(file.read())
                else:
                    json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return time.perf_counter() - began


def measured(folder: Path, n_models: int, n_tensors: int) -> list[tuple[str, str, str]]:
    """What, what it took, what was promised."""
    tree, catalog = folder / f"tree-{n_models}-{n_tensors}", folder / "catalog.duckdb"
    if not tree.exists():
        unfinished = folder / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        headers.write(unfinished, n_models, n_tensors)
        unfinished.rename(tree)
    catalog.unlink(missing_ok=True)
    plain = read_headers(tree)
    rows = [("read and parse every header and config, in one thread", f"{plain:.0f} s", "")]
    for what, promise in (
        ("first scan", "≥ 1,000 a second"),
        ("second scan", "10,000 files < 5 s"),
    ):
        cost = run(catalog, "--quiet", "scan", "--headers-only", str(tree))
        rate = n_models / cost.seconds
        rows.append((
            what,
            f"{cost.seconds:.0f} s ({cost.processor:.0f} s), {rate:,.0f} checkpoints a second, {cost.seconds / plain:.1f} x the read, "
            f"peak {cost.peak:,.0f} MiB",
            promise,
        ))  # fmt: skip
        print(*rows[-1], sep="  ", file=sys.stderr, flush=True)
    rows.append(("size of the catalog", f"{catalog.stat().st_size / 2**20:,.0f} MiB", ""))
    asked = [("sql", question) for question in QUESTIONS]
    for words in (*asked, ("show", "model-000777"), ("ls",)):
        cost = run(catalog, "--json", *words)
        rows.append((
            f"`reg {' '.join(words)}`",
            f"{cost.seconds:.2f} s ({cost.processor:.2f} s), peak {cost.peak:,.0f} MiB",
            "",
        ))  # fmt: skip
        print(*rows[-1], sep="  ", file=sys.stderr, flush=True)
    return rows


def table(
    n_models: int, n_tensors: int, rows: list[tuple[str, str, str]], loads: tuple[float, float]
) -> str:
    """The page; loads are the processes that wanted a core when it began and when it ended."""
    return "\n".join([
        "# Very many checkpoints", "",
        f"{n_models:,} made-up checkpoints in folders of their own, each a config and the header of {n_tensors} tensors with a hole behind",
        f"it, scanned with `--headers-only`: {n_models * n_tensors:,} rows of tensors. Whole processes, start-up and all, on two cores; what is",
        "read may be in the page cache or not. In brackets what all processors took together, which tells more than the clock where others work",
        f"too: {loads[0]:.1f} processes wanted a core when it began, {loads[1]:.1f} when it ended. Made by `tests/bench/load.py`.", "",
        "| what | took (of all processors) | promised |", "|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows), "",
    ])  # fmt: skip


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--folder", type=Path, required=True)
    options.add_argument("--models", type=int, default=100_000)
    options.add_argument("--tensors", type=int, default=300)
    options.add_argument("--write", type=Path)
    chosen = options.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    began = os.getloadavg()[0]
    rows = measured(chosen.folder.resolve(), chosen.models, chosen.tensors)
    text = table(chosen.models, chosen.tensors, rows, (began, os.getloadavg()[0]))
    print(text)
    if chosen.write:
        chosen.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

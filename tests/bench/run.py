"""How close the engine is to the disk: ratios against a plain chunked read and write of the same bytes.

    python tests/bench/run.py [--millions 100] [--rounds 3] [--folder DIR]

Makes a family of random bf16 checkpoints in Llama layout, then measures in one process, warm cache, median of some
rounds. The ratio is what counts: seconds belong to the machine. Nothing is asserted.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors.torch import save_file

from engine import stats
from engine.merge import merge
from engine.recipe import Part, Recipe
from registry.catalog import Catalog
from registry.scan import scan

BLOCK = 8 << 20
METHODS = {
    "linear": 3, "task_arithmetic": 3, "slerp": 2, "dare_linear": 3, "ties": 3, "dare_ties": 3, "widen": 2,
}  # fmt: skip


def make_family(folder: Path, millions: int) -> None:
    """A base and three children whose deltas have a standard deviation of 0.001."""
    hidden, inner, vocabulary = 1024, 2816, 16_000
    per_layer = 4 * hidden * hidden + 3 * hidden * inner
    n_layers = max(1, (millions * 1_000_000 - vocabulary * hidden) // per_layer)
    shapes = {"model.embed_tokens.weight": (vocabulary, hidden), "model.norm.weight": (hidden,)}
    for i in range(n_layers):
        layer = f"model.layers.{i}"
        for name in "qkvo":
            shapes[f"{layer}.self_attn.{name}_proj.weight"] = (hidden, hidden)
        shapes |= {f"{layer}.mlp.{name}_proj.weight": (inner, hidden) for name in ("gate", "up")}
        shapes[f"{layer}.mlp.down_proj.weight"] = (hidden, inner)
        shapes[f"{layer}.input_layernorm.weight"] = (hidden,)
    random = torch.Generator().manual_seed(0)
    base = {name: torch.randn(shape, generator=random) * 0.02 for name, shape in shapes.items()}
    for child in ("base", "one", "two", "three"):
        spread = 0.0 if child == "base" else 0.001
        target = folder / child
        target.mkdir(parents=True)
        tensors = {
            name: (t + torch.randn(t.shape, generator=random) * spread).bfloat16()
            for name, t in base.items()
        }
        save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
        (target / "config.json").write_text(json.dumps({"model_type": "llama"}))
        parent = "" if child == "base" else "base_model: base\n"
        (target / "README.md").write_text(f"---\nlicense: apache-2.0\n{parent}---\n")


def plain(inputs: Iterable[Path], output: Path | None) -> None:
    """Read every input in blocks and write as much as one of them: the least any merge must do."""
    buffer = bytearray(BLOCK)
    out = open(output, "wb", buffering=0) if output else None  # noqa: SIM115 - closed below
    for i, file in enumerate(inputs):
        with open(file, "rb", buffering=0) as source:
            while n := source.readinto(buffer):
                if out and i == 0:
                    out.write(memoryview(buffer)[:n])
    if out:
        os.fsync(out.fileno())
        out.close()


def median(rounds: int, work: Callable[[], object]) -> tuple[float, float, float]:
    """Median, least and largest seconds of some rounds."""
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), min(seconds), max(seconds)


def row(name: str, work: tuple[float, float, float], floor: tuple[float, float, float]) -> None:
    """Print one line of the table."""
    print(
        f"{name:<22} {work[0] / floor[0]:6.2f} x  {work[0]:7.2f} s  ({work[1]:.2f}-{work[2]:.2f})  floor {floor[0]:.2f} s"
    )


def main() -> None:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--millions", type=int, default=100, help="parameters of each model, in millions"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="homolog-bench-"))
    try:
        make_family(folder / "models", options.millions)
        measure(folder, options.rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(folder: Path, rounds: int) -> None:
    """Print a line per use case."""
    files = {
        m: folder / "models" / m / "model.safetensors" for m in ("base", "one", "two", "three")
    }
    size = files["base"].stat().st_size
    print(
        f"{size / 1e9:.2f} GB a model, {os.cpu_count()} cores, torch {torch.__version__}, median of {rounds}"
    )

    def fresh_scan() -> None:
        (folder / "catalog.duckdb").unlink(missing_ok=True)
        scan(Catalog(folder / "catalog.duckdb"), [str(folder / "models")])

    row(
        "scan, 4 models",
        median(rounds, fresh_scan),
        median(rounds, lambda: plain(files.values(), None)),
    )
    catalog = Catalog(folder / "catalog.duckdb")
    child, base = catalog.find("one"), catalog.find("base")

    def fresh_stats() -> None:
        with catalog.write() as transaction:
            transaction.execute("delete from store.pair")
        stats.measure(catalog, child, base)

    floor = median(rounds, lambda: plain((files["base"], files["one"]), None))
    row("stats, 1 pair", median(rounds, fresh_stats), floor)
    for method, n in METHODS.items():
        models = ("one", "two", "three")[:n]
        with_base = method not in ("linear", "slerp")
        inputs = [files[m] for m in ((*models, "base") if with_base else models)]
        recipe = Recipe(method, tuple(Part(m) for m in models))

        def run(recipe: Recipe = recipe) -> None:
            shutil.rmtree(folder / "out", ignore_errors=True)
            merge(catalog, recipe, folder / "out")

        def copy(inputs: list[Path] = inputs) -> None:
            plain(inputs, folder / "copy")
            (folder / "copy").unlink()

        row(f"{method}, {n} models", median(rounds, run), median(rounds, copy))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak resident memory of the whole process, family making included: {peak:,.0f} MiB")


if __name__ == "__main__":
    main()

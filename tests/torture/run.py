"""Everything that users and their disks do to a registry, many times: `make torture`.

    PYTHONPATH=tests python -m torture.run [--seed 0] [--minutes 30] [--only kills,fuzz]

Each part has its share of the time and prints a line for each kind of damage as soon as it is done. The exit status is 1
when a row was lost, an error had no name or half a model was left.
"""

import argparse
import importlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

from torture.trial import Part, Trial

SHARES = {"kills": 0.4, "crowd": 0.2, "disk": 0.15, "fuzz": 0.25}
"""The parts, in their order, and the share of the time that each of them has."""

HEAD = ("part", "what", "tries", "faults", "lost rows", "unnamed errors", "half models")
WIDTHS = (6, 56, 7, 7, 9, 14, 11)


def trials(seed: int, seconds: float, parts: Sequence[str], folder: Path) -> Iterator[Trial]:
    """All trials of these parts, each part within an empty folder of its own, which goes with it."""
    whole = sum(SHARES[part] for part in parts)
    for name in parts:
        module = cast("Part", importlib.import_module(f"torture.{name}"))
        place = folder / name
        place.mkdir()
        yield from module.trials(seed, seconds * SHARES[name] / whole, place)
        shutil.rmtree(place, ignore_errors=True)


def line(*cells: object) -> str:
    """One line of the table: words to the left, numbers to the right."""
    padded = (
        f"{cell!s:<{width}}" if isinstance(cell, str) else f"{cell!s:>{width}}"
        for cell, width in zip(cells, WIDTHS, strict=True)
    )
    return "  ".join(padded).rstrip()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--only", default=",".join(SHARES), help="parts, with commas between them")
    options = parser.parse_args(arguments)
    parts = [part for part in SHARES if part in options.only.split(",")]
    print(f"seed {options.seed}, {options.minutes:g} minutes")
    print(line(*HEAD))
    found = []
    with tempfile.TemporaryDirectory(prefix="homolog-torture-") as folder:
        for trial in trials(options.seed, options.minutes * 60, parts, Path(folder)):
            found.append(trial)
            print(
                line(
                    trial.part,
                    trial.what,
                    trial.tries,
                    trial.faults,
                    trial.lost_rows,
                    trial.unnamed_errors,
                    trial.half_models,
                ),
                flush=True,
            )
    bad = [trial for trial in found if not trial.clean]
    for trial in bad:
        print(
            f"\n{trial.part}: {trial.what}", *(f"  {detail}" for detail in trial.details), sep="\n"
        )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

"""The process that tries inputs: one kind after the other, told on stdout what it is about to try and what came of it.

    PYTHONPATH=tests python -m torture.attempts FOLDER [--seed 1] [--seconds 60] [--kinds headers,recipes] [--first 0] [--tries 1]

Every input is drawn from (seed, kind, number), so that one can be tried again by itself.
"""

import argparse
import importlib
import json
import os
import resource
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

KINDS = (
    "headers", "indexes", "ggufs", "cards", "adapters", "configs", "recipes", "mergekits", "results", "listings", "sidecars",
    "addresses", "arguments",
)  # fmt: skip
"""Modules of `torture.inputs`, in the order in which they are tried."""

MOST_ADDRESSES = 24 << 30
"""Bytes that the process may map, so that a bomb costs it and not the machine; sparse files are mapped in there, too."""


class Kind(Protocol):
    """A module of `torture.inputs`."""

    WHAT: str

    def attempt(self, chance: Any, court: Any, ground: Any) -> None:
        """Make one input, or some, and see how it ends."""
        ...


def kind_of(name: str) -> Kind:
    """The module of this name."""
    return cast("Kind", importlib.import_module(f"torture.inputs.{name}"))


def alone(folder: Path) -> None:
    """Keep this process away from the network, the user's own catalog and cache, and most of the memory."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_ADDRESSES, MOST_ADDRESSES))
    os.environ.update(
        HF_HUB_OFFLINE="1", HF_HOME=str(folder / "hf"), XDG_DATA_HOME=str(folder / "data")
    )
    os.environ.pop("REG_CATALOG", None)


def tried(
    folder: Path, kinds: Sequence[str], *, seed: int, first: int, seconds: float, most: int
) -> Iterator[dict[str, Any]]:
    """Try inputs of each kind, at least one: a line before each, a line after each.

    Args:
        folder: for `torture.ground.Ground`.
        kinds: of inputs, each of which has the same time.
        seed: of all inputs.
        first: number of the first input of the first kind.
        seconds: for all of it.
        most: inputs of each kind.
    """
    from torture.chance import Chance  # noqa: PLC0415 - after `alone`
    from torture.court import Court  # noqa: PLC0415
    from torture.ground import Ground  # noqa: PLC0415

    end = time.monotonic() + seconds
    ground = Ground(folder)
    for i, kind in enumerate(kinds):
        module = kind_of(kind)
        stop = time.monotonic() + (end - time.monotonic()) / (len(kinds) - i)
        for number in range(first, first + most):
            yield {"kind": kind, "number": number}
            court = Court()
            module.attempt(Chance(f"{seed}/{kind}/{number}"), court, ground)
            yield {"kind": kind, "number": number, **court.report()}
            if time.monotonic() >= stop:
                break
        first = 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Try them, and print a line of JSON for each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--tries", type=int, default=10**9)
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    folder = options.folder.resolve()
    alone(folder)
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    for line in tried(
        folder, options.kinds.split(","), seed=options.seed, first=options.first,
        seconds=options.seconds, most=options.tries,
    ):  # fmt: skip
        print(json.dumps(line), file=lines)


if __name__ == "__main__":
    main()

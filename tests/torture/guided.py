"""One kind of input, steered by what code it reaches, for as long as nobody stops it. Needs atheris (pip install atheris).

PYTHONPATH=tests python -m torture.guided FOLDER headers [options of libFuzzer, such as -max_total_time=60]
"""

import sys
from pathlib import Path

import atheris
from torture.attempts import KINDS, alone, kind_of


class Unnamed(Exception):  # noqa: N818 - an end, not an error
    """An end without a name."""


def main() -> None:
    """Steer until something is found."""
    folder, kind = Path(sys.argv[1]).resolve(), sys.argv[2]
    if kind not in KINDS:
        sys.exit(f"{kind} is none of {', '.join(KINDS)}")
    folder.mkdir(parents=True, exist_ok=True)
    alone(folder)
    with atheris.instrument_imports(include=["registry", "engine", "cli"]):
        module = kind_of(kind)
    from torture.chance import Steered  # noqa: PLC0415 - after the instruments
    from torture.court import Court  # noqa: PLC0415
    from torture.ground import Ground  # noqa: PLC0415

    ground = Ground(folder)

    def one(content: bytes) -> None:
        court = Court()
        module.attempt(Steered(content), court, ground)
        wrong = [*court.findings, *court.lost_rows, *court.half_models]
        if wrong:
            raise Unnamed("\n".join(map(str, wrong)))

    corpus = folder / f"corpus-{kind}"
    corpus.mkdir(exist_ok=True)
    atheris.Setup([sys.argv[0], str(corpus), "-max_len=8192", *sys.argv[3:]], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

"""Run every recipe of a folder with the real mergekit, in one process; its own Python runs this file."""

import sys
import traceback
from pathlib import Path

import torch
import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions


def main(folder: Path) -> None:
    """Write ``NAME/`` for each ``NAME.yaml``, or ``NAME.error`` with what mergekit said."""
    torch.set_num_threads(1)
    options = MergeOptions(random_seed=1, quiet=True, copy_tokenizer=True)
    for file in sorted(folder.glob("*.yaml")):
        try:
            config = MergeConfiguration.model_validate(yaml.safe_load(file.read_text()))
            run_merge(config, str(folder / file.stem), options=options)
        except Exception:  # noqa: BLE001 - whatever it says is data of the comparison
            (folder / f"{file.stem}.error").write_text(traceback.format_exc())
    (folder / "done").touch()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Where the files of `schema/` and `data/` are: beside the package in a checkout, inside it in a wheel."""

from pathlib import Path

_HERE = Path(__file__).parent


def schema_folder() -> Path:
    """The folder of migrations and views."""
    inside = _HERE / "_schema"
    return inside if inside.is_dir() else _HERE.parent / "schema"


def data_folder() -> Path:
    """The folder of small facts: the trained family, suites, golden vectors."""
    inside = _HERE / "_data"
    return inside if inside.is_dir() else _HERE.parent / "data"


def migrations() -> list[tuple[int, Path]]:
    """(version, file) of every migration, in the order in which they are applied."""
    files = sorted(schema_folder().glob("[0-9][0-9][0-9][0-9]_*.sql"))
    return [(int(file.name[:4]), file) for file in files]

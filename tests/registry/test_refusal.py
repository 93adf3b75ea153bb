"""What DuckDB says becomes an error with a name, and says who stands in the way."""

import pytest

from registry.errors import CatalogDamaged, CatalogLocked, NotEnoughDisk
from registry.refusal import translated


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ('IO Error: Could not set lock on file "c": Conflicting lock is held in /bin/x (PID 42)', CatalogLocked, "by process 42 (/bin/x)"),
        ("Connection Error: Can't open with a different configuration", CatalogLocked, "which is this one"),
        ("IO Error: No space left on device", NotEnoughDisk, "the transaction was not kept"),
        ("IO Error: not a valid DuckDB database\nand more", CatalogDamaged, "not a valid DuckDB database"),
    ],
)  # fmt: skip
def test_each_has_a_name(said, kind, words, tmp_path):
    error = translated(OSError(said), tmp_path / "c.duckdb")
    assert type(error) is kind
    assert words in error.message
    assert str(tmp_path / "c.duckdb") in error.message
    assert error.hint
    assert "and more" not in error.message

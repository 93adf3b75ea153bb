"""A column of values on its way into the database: numpy arrays, and the SQL that reads them back.

Numbers travel as numbers, everything else as text that is cast on arrival; no type of Python is guessed there.
"""

import json
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np

Column = Sequence[Any]
"""The values of one column; None is NULL."""

Array: TypeAlias = "np.ndarray[Any, Any]"
"""Numbers of one column, or of one list in it."""

_NUMBERS = {"BIGINT": "int64", "INTEGER": "int32", "SMALLINT": "int16", "DOUBLE": "float64"}
_NESTED = re.compile(r".*\]|STRUCT\(.*|MAP\(.*", re.DOTALL)


def as_array(kind: str, values: Column, name: str) -> tuple[Array, str]:
    """Turn values into an array.

    Args:
        kind: their type, as DuckDB writes it.
        values: as DuckDB's Python client gives them; in the place of None stands any value of the type.
        name: of the array in SQL.

    Returns:
        The array, and the SQL expression over it that gives the values back.
    """
    import numpy as np  # noqa: PLC0415 - a third of a reader's start, and only writers need it

    if number := _NUMBERS.get(kind):
        filled = [0 if value is None else value for value in values]
        return np.asarray(filled, dtype=number), name
    texts = [
        value if type(value) is str and value.isascii() else _text(kind, value) for value in values
    ]  # nearly all are plain text
    if _NESTED.fullmatch(kind):
        made = f"cast(cast({name} as json) as {kind})"
    elif kind == "BLOB":
        made = f"unhex({name})"
    elif kind == "INTERVAL":
        made = f"to_microseconds(cast({name} as bigint))"
    else:
        made = f"cast({name} as {kind})"
    return np.asarray(texts, dtype=object), made


def as_mask(values: Column) -> Array:
    """Tell for each value whether there is one."""
    import numpy as np  # noqa: PLC0415 - as above

    return np.asarray([value is not None for value in values])


def unicode(text: str) -> str:
    """Text that a database takes: half of a surrogate pair, which ends DuckDB for good, becomes its escape."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def as_json(values: Column) -> str:
    """A list as JSON text, for ``store.each(?)``; what `unicode` would change is changed first."""
    text = json.dumps(values)
    if "\\ud" not in text:
        return text
    return json.dumps([unicode(value) if isinstance(value, str) else value for value in values])


def _text(kind: str, value: Any) -> str:
    """One value as the text that the expression of `as_array` reads."""
    if value is None:
        return ""
    if isinstance(value, str):
        return unicode(value)
    if _NESTED.fullmatch(kind):
        return json.dumps(_plain(value))
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, timedelta):
        return str(value // timedelta(microseconds=1))
    return str(value)


def _plain(value: Any) -> Any:
    """A nested value as JSON can write it."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, int | float | str | None) else str(value)

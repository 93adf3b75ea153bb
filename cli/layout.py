"""How wide the columns of a table are: pure arithmetic on widths, in terminal cells."""

from collections.abc import Sequence

GAP = 2
"""Blanks between two columns."""

LEAST = 16
"""A column is cut to this at most; if that does not do, the last columns are left out."""


def fit(natural: Sequence[int], available: int) -> list[int]:
    """Widths of the columns that fit into ``available`` cells, from the first on.

    Laws: the widths and gaps add up to at most ``available`` (but for a single column, which is never left out); no
    width is more than natural; if everything fits, every width is natural.

    Args:
        natural: width each column needs to show everything, at least one column.
        available: width of the terminal.

    Returns:
        One width per column that is shown; columns beyond the list are left out.
    """
    widths = [min(n, LEAST) for n in natural]
    while len(widths) > 1 and _total(widths) > available:
        widths.pop()
    if len(widths) == 1:
        return [max(1, min(natural[0], available))]
    spare = available - _total(widths)
    # The columns that need least are made whole first: most columns end up uncut.
    for i in sorted(range(len(widths)), key=lambda i: (natural[i] - widths[i], i)):
        more = min(natural[i] - widths[i], spare)
        widths[i] += more
        spare -= more
    return widths


def _total(widths: Sequence[int]) -> int:
    """Cells that columns of these widths take with their gaps."""
    return sum(widths) + GAP * (len(widths) - 1)

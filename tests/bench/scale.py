"""A catalog of a million listed models: what an import and point questions cost, beside what was promised.

    python scale.py --folder DIR [--models 1000000] [--write data/scale.md]

The listing and the catalog stay in the folder; a second run takes what is there. Questions are asked inside of one
process, each three times; the table shows the least.
"""

import argparse
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import listing_dump

from registry.candidates import candidates
from registry.catalog import Catalog
from registry.errors import UnknownModel
from registry.intake import import_listings
from registry.lineage import Lineage
from registry.relatives import relatives
from registry.sealed import query
from registry.verdict import mergeable

QUESTIONS = (
    "select * from models where status <> 'listed' order by name, id",
    "select kind, child, parent, detail from conflicts",
    "select child, parent, relation, confidence, statistic, value from edges "
    "join evidence using (child, parent, relation, status) where status = 'inferred'",
    "select child, base, relative_l2, max_abs, within_005 from delta_summary order by max_abs desc",
    "select layer, module, relative_l2 from layers where child = 'prose' order by relative_l2 desc limit 5",
    "select model, task, value, stderr, n, origin from scores order by task, value desc",
)
"""That of `reg ls`, and those of the README."""

Row = tuple[str, str, str]
"""What, what it took, what was promised."""


def least(work: Callable[[], Any], times: int = 3) -> str:
    """The least seconds of a few runs, on the clock and of all processors."""
    found, used = [], []
    for _ in range(times):
        began, cpu = time.perf_counter(), time.process_time()
        work()
        found.append(time.perf_counter() - began)
        used.append(time.process_time() - cpu)
    return f"{min(found):.3f} s ({min(used):.3f} s)"


def imported(catalog: Catalog, listing: Path) -> list[Row]:
    """What taking the listing in costs, and taking it in once more."""
    rows = []
    for what, promise in (("import", "< 120 s"), ("import of the same", "")):
        began, cpu = time.perf_counter(), time.process_time()
        import_listings(catalog, [listing])
        took = (
            f"{time.perf_counter() - began:.0f} s ({time.process_time() - cpu:.0f} s of processor)"
        )
        rows.append((what, took, promise))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [*rows, ("peak memory of both", f"{peak:,.0f} MiB", "bounded"),
            ("size of the catalog", f"{catalog.path.stat().st_size / 2**20:,.0f} MiB", "")]  # fmt: skip


def asked(catalog: Catalog) -> list[Row]:
    """What point questions cost."""
    root = catalog.find(listing_dump.name(0))
    newest = catalog.rows(
        "select model_id as id from store.address a where exists (select 1 from store.edge where child = a.model_id) "
        "order by published_at desc, name limit 2"
    )
    a, b = (row["id"] for row in newest)
    middle = catalog.rows(
        "select parent as id from store.edge group by parent having count(*) between 50 and 100 order by 1 limit 1"
    )[0]["id"]
    n_root, n_middle = (relatives(catalog, m, "descendants").total for m in (root, middle))

    def unknown() -> None:
        try:
            catalog.find("org-0/modl-0")
        except UnknownModel:
            return

    work: list[tuple[str, Callable[[], Any], str]] = [
        ("a model by its name", lambda: catalog.find(listing_dump.name(777)), ""),
        ("a name that nobody has, with the nearest one", unknown, ""),
        ("ancestors", lambda: relatives(catalog, a, "ancestors"), "< 0.1 s"),
        (f"descendants, {n_middle:,} of them", lambda: relatives(catalog, middle, "descendants"), "< 0.1 s"),
        (f"descendants, {n_root:,} of them, counted, 1,000 named", lambda: relatives(catalog, root, "descendants"), "< 0.1 s"),
        ("common base of two", lambda: Lineage.load(catalog, [a, b]).common_base([a, b]), "< 0.1 s"),
        ("`mergeable` of two", lambda: mergeable(catalog, [a, b]), "< 1 s"),
        ("`candidates` of one", lambda: candidates(catalog, a), "< 1 s"),
    ]  # fmt: skip
    work += [
        (f"`{sql}`", lambda sql=sql: query(catalog.database, sql), "< 1 s") for sql in QUESTIONS
    ]
    rows = []
    for what, run, promise in work:
        rows.append((what, least(run), promise))
        print(*rows[-1], sep="  ", file=sys.stderr, flush=True)
    return rows


def table(n_models: int, n_edges: int, rows: list[Row], loads: tuple[float, float]) -> str:
    """The page; loads are the processes that wanted a core when it began and when it ended."""
    lines = [
        "# A catalog of a million listed models", "",
        f"{n_models:,} models and {n_edges:,} edges from one made-up listing (`tests/bench/listing_dump.py`: few parents have",
        "most of the children, chains, merges of two to five, parents that are in no listing), on two cores. Questions are asked",
        "inside of one process, each three times; the least is shown. In brackets what all processors took together, which",
        f"tells more than the clock where others work too: {loads[0]:.1f} processes wanted a core when it began, {loads[1]:.1f}",
        "when it ended. Made by `tests/bench/scale.py`.", "",
        "| what | took (of all processors) | promised |", "|---|---|---|",
    ]  # fmt: skip
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows), ""])


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--folder", type=Path, required=True)
    options.add_argument("--models", type=int, default=1_000_000)
    options.add_argument("--write", type=Path)
    chosen = options.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    listing = chosen.folder / f"hub-{chosen.models}.jsonl"
    if not listing.exists():
        listing_dump.write(listing, chosen.models)
    began = os.getloadavg()[0]
    catalog = Catalog(chosen.folder / f"catalog-{chosen.models}.duckdb")
    rows = imported(catalog, listing)
    rows += asked(catalog)
    n_edges = catalog.rows("select count(*) as n from store.edge")[0]["n"]
    text = table(chosen.models, n_edges, rows, (began, os.getloadavg()[0]))
    print(text)
    if chosen.write:
        chosen.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""Integrity of rows: what refers to nothing, what has no meaning, what contradicts itself, as far as SQL can tell.

Foreign keys are declared in `registry.records` and not emitted on DuckDB; here anti-joins stand in for them. A check names
the rows that break a rule; its mend removes them or corrects them, and is written so that it can be run when earlier
mends have changed what it looks at.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from registry.database import Reader
from registry.finding import Finding, examples
from registry.records import references

_SCAN = "reg scan of its folder reads it anew"
_STATS = "reg stats measures it anew"
_INFER = "reg infer finds it anew"

_ANEW = {
    "address": _SCAN, "file": _SCAN, "tensor": _SCAN, "claim": _SCAN, "edge": _INFER, "evidence": _INFER,
    "score": "reg scan, reg score import or reg score run brings it again", "pair": _STATS, "delta": _STATS,
    "histogram": _STATS, "spectrum": _STATS, "sketch": _INFER,
    "run": "homolog.json beside the weights still has its recipe", "alias": "reg alias set gives it to another model",
}  # fmt: skip
"""What brings removed rows of a table again."""

_MAY_LACK = {("run", "model_id"), ("claim", "resolved_id"), ("edge", "run_id")}
"""Columns that need not refer to anything: of a row whose reference is broken, it alone goes."""

_FURTHER = (
    ("claim", "resolved_id", "store.model", "id"),
    ("claim", "uri", "store.address", "uri"),
    ("file", "uri", "(select uri from store.address union all select uri from store.problem)", "uri"),
    ("run", "recipe", "store.recipe", "digest"),
    ("edge", "run_id", "store.run", "id"),
)  # fmt: skip
"""References beside those to models: table, column, what it refers to, and its key."""

_WORDS = {
    ("model", "kind"): ("model", "adapter"),
    ("model", "status"): ("full", "sampled", "header", "listed", "latent"),
    ("address", "source"): ("local", "hf-cache", "hub", "listing"),
    ("address", "layout"): ("folder", "file"),
    ("edge", "role"): ("parent", "base", "model"),
    ("edge", "status"): ("declared", "measured", "inferred", "recorded"),
    ("evidence", "status"): ("declared", "measured", "inferred", "recorded"),
    ("evidence", "scope"): ("header", "sampled", "full"),
    ("score", "origin"): ("claimed", "measured"),
    ("run", "status"): ("STARTED", "COMPLETE", "FAILED", "ABORTED"),
    ("pair", "scope"): ("full",),
    ("delta", "status"): ("aligned", "cropped", "only_child", "only_base", "mismatched", "uncounted"),
}  # fmt: skip
"""The values that columns with few of them may have."""

_KEPT = ("model", "run")
"""Tables whose rows are not removed for a word: too much hangs on them."""

_DOCUMENTS = {
    ("address", "config"): ("uri", "file"), ("address", "says"): ("uri", "file"),
    ("tensor", "shape"): ("model_id", "tensor"), ("sketch", "patches"): ("model_id", "sketch"),
    ("sketch", "invariants"): ("model_id", "sketch"), ("component", "found"): ("id", "component"),
    ("clans", "found"): ("spec", "clans"), ("recipe", "canonical"): ("digest", "recipe"),
}  # fmt: skip
"""Columns of JSON → column that names the row, and the table whose rows go so that it is made anew."""

_DESCENDS = (("pair", "delta"), ("delta", "histogram"), ("delta", "spectrum"))
_COUNTED = "n_aligned + n_cropped + n_only_child + n_only_base + n_mismatched + n_uncounted"


@dataclass(frozen=True)
class _Check:
    """A rule that rows of a table may break.

    Attributes:
        kind: of the finding.
        table: without its schema.
        where: which rows break it; t is the table.
        name: SQL of what names a row.
        detail: what is wrong.
        repair: what is done.
        mends: statements; {rows} stands for the rows' numbers.
        lost: what is lost.
        column: that breaks it; empty: the row does.
    """

    kind: str
    table: str
    where: str
    name: str
    detail: str
    repair: str
    mends: tuple[str, ...] = ("delete from store.{table} where rowid in ({rows})",)
    lost: str = ""
    column: str = ""

    @property
    def where_shown(self) -> str:
        """Where the finding is said to be: the table, and the column if it is one's."""
        return f"{self.table}.{self.column}" if self.column else self.table

    def finding(self, reader: Reader) -> Finding | None:
        """What breaks the rule; None: nothing."""
        (row,) = reader.rows(
            f"select count(*) as n, list_sort(list(distinct cast({self.name} as varchar))) as names "
            f"from store.{self.table} t where {self.where}"
        )
        if not row["n"]:
            return None
        numbers = f"select t.rowid from store.{self.table} t where {self.where}"
        names = [name[:60] for name in row["names"] or [] if name is not None]
        detail = f"{self.detail}: {examples(names, len(names))}"
        mends = [(sql.format(table=self.table, rows=numbers), ()) for sql in self.mends]
        return Finding(
            self.kind, self.where_shown, row["n"], detail, self.lost, self.repair, tuple(mends), can_repair=True,
        )  # fmt: skip


def check_rows(reader: Reader, without_row: Sequence[str] = ()) -> Iterator[Finding]:
    """Every rule that is broken, in the order in which mends follow from each other.

    Args:
        reader: of the catalog.
        without_row: ids of models that are there but for their row, hex; `registry.contents` makes it again.
    """
    for check in (
        *_keys(),
        *_references(without_row),
        *_words(),
        *_documents(),
        *_measures(),
        *_derived(),
        *_aliases(),
        *_selves(),
    ):
        if found := check.finding(reader):
            yield found
    yield from _counts(reader)
    yield from _unplaced(reader)


def _keys() -> Iterator[_Check]:
    """Rows with the key of another, of the table whose key no index keeps."""
    twice = "from store.tensor group by model_id, name having count(*) > 1"
    where = f"(t.model_id, t.name) in (select (model_id, name) {twice}) and t.rowid not in (select min(rowid) {twice})"
    yield _Check("twice", "tensor", where, "t.model_id", "a tensor of a model stands there twice", "one of each is kept")  # fmt: skip


def _references(without_row: Sequence[str] = ()) -> Iterator[_Check]:
    """Rows that refer to what is not there."""
    listed = ", ".join(f"'{model}'" for model in without_row)
    to_models = [(t, c, "store.model", "id") for t, c in references("model")]
    order = sorted(to_models, key=lambda r: (r[0] != "address", r[0], r[1]))
    for table, column, target, key in (*order, *_FURTHER):
        where = f"t.{column} is not null and t.{column} not in (select {key} from {target})"
        where += f" and t.{column} not in ({listed})" if listed else ""
        what = "model" if target == "store.model" else target.rpartition(".")[2].split(" ")[0]
        what = what if what != "problem" and "union" not in target else "place"
        detail = f"{column} names a {what} that is not there"
        if (table, column) in _MAY_LACK:
            mend: tuple[str, ...] = (
                f"update store.{{table}} set {column} = null where rowid in ({{rows}})",
            )
            yield _Check(
                "orphans", table, where, f"t.{column}", detail, f"{column} is emptied", mend, column=column
            )  # fmt: skip
            continue
        lost = "scores that were added by hand" if table == "score" else ""
        yield _Check(
            "orphans", table, where, f"t.{column}", detail, f"the rows are removed; {_ANEW[table]}", lost=lost, column=column,
        )  # fmt: skip


def _words() -> Iterator[_Check]:
    """Values that mean nothing."""
    for (table, column), words in _WORDS.items():
        listed = ", ".join(f"'{word}'" for word in words)
        where = f"t.{column} not in ({listed})"
        detail = f"{column} must be one of {', '.join(words)}, and is not"
        if table not in _KEPT:
            yield _Check(
                "words", table, where, f"t.{column}", detail, f"the rows are removed; {_ANEW[table]}", column=column
            )  # fmt: skip
        elif table == "run":
            mend = ("update store.{table} set status = 'ABORTED', error = 'its status meant nothing' where rowid in ({rows})",)  # fmt: skip
            yield _Check(
                "words", table, where, f"t.{column}", detail, "set to ABORTED", mend, column=column
            )
        else:
            mend = (f"update store.{{table}} set {column} = {_GUESSED[column]} where rowid in ({{rows}})",)  # fmt: skip
            yield _Check(
                "words", table, where, f"t.{column}", detail, "set to what its tensors and places tell", mend, column=column
            )  # fmt: skip


_GUESSED = {
    "kind": "case when exists (select 1 from store.tensor x where x.model_id = model.id and x.name like '%lora_%') "
    "then 'adapter' else 'model' end",
    "status": "case when exists (select 1 from store.tensor x where x.model_id = model.id and x.digest is not null) then 'full' "
    "when exists (select 1 from store.sketch x where x.model_id = model.id) and digest_name like '%header%' then 'sampled' "
    "when exists (select 1 from store.address x where x.model_id = model.id and x.source <> 'listing') then 'header' "
    "when exists (select 1 from store.address x where x.model_id = model.id) then 'listed' else 'latent' end",
}  # fmt: skip


def _documents() -> Iterator[_Check]:
    """Texts that should be JSON."""
    for (table, column), (name, goes) in _DOCUMENTS.items():
        where = f"t.{column} is not null and not json_valid(t.{column})"
        mend = f"delete from store.{goes} where {name} in (select {name} from store.{table} where rowid in ({{rows}}))"
        mends: tuple[str, ...] = (mend,)
        if (table, column) == ("address", "config"):
            mends = (mend, "update store.address set config = '{{}}' where rowid in ({rows})")
        elif (table, column) == ("address", "says"):
            mends = (mend, "update store.address set says = null where rowid in ({rows})")
        anew = {"file": _SCAN, "tensor": _SCAN, "sketch": _INFER, "recipe": _ANEW["run"]}
        words = f"removed; {anew.get(goes, _INFER)}"
        yield _Check("documents", table, where, f"t.{name}", f"{column} is not JSON", words, mends, column=column)  # fmt: skip


def _measures() -> Iterator[_Check]:
    """Measurements that are not whole: `reg stats` would take them for done."""
    pair = "delete from store.{table} where rowid in ({rows})"
    for above, below in _DESCENDS:
        keys = "t.child = x.child and t.base = x.base" + (
            " and t.tensor = x.tensor" if above == "delta" else ""
        )
        where = f"not exists (select 1 from store.{above} x where {keys})"
        yield _Check("orphans", below, where, "t.child", f"there is no {above} of these models", f"the rows are removed; {_STATS}")  # fmt: skip
    where = f"{_COUNTED} <> (select count(*) from store.delta x where x.child = t.child and x.base = t.base)"
    yield _Check("partial", "pair", where, "t.child", "tensors are missing of what was measured of", f"the pair is removed; {_STATS}", (pair,))  # fmt: skip
    where = "len(t.bins) <> len(t.counts) or len(t.bins) <> len(t.sums_abs) or len(t.bins) <> len(t.sums_sq)"
    of_them = "select (child, base) from store.histogram where rowid in ({rows})"
    pairs = (f"delete from store.pair where (child, base) in ({of_them})", pair)
    yield _Check("partial", "histogram", where, "t.child", "lists of different lengths", f"pair and histogram are removed; {_STATS}", pairs)  # fmt: skip


def _derived() -> Iterator[_Check]:
    """Samples that cannot be what they say, and numbers that are not those of the models."""
    where = "octet_length(t.scalars) <> 4 * t.n_scalars"
    yield _Check("derived", "sketch", where, "t.model_id", "holds more or fewer samples than it says", f"removed; {_INFER}")  # fmt: skip
    settled = "settled anew"
    where = "t.number in (select number from store.model group by number having count(*) > 1)"
    of_them = "select id from store.model where rowid in ({rows})"
    mends = (
        f"update store.edge set child_number = null, parent_number = null where child in ({of_them}) or parent in ({of_them})",
        f"update store.address set model_number = null where model_id in ({of_them})",
        "update store.model set number = null where rowid in ({rows})",
    )
    yield _Check("derived", "model", where, "t.id", "models share a number", settled, mends, column="number")  # fmt: skip
    ends = "exists (select 1 from store.model m where m.id = t.{0} and m.number is distinct from t.{0}_number)"
    where = f"{ends.format('child')} or {ends.format('parent')}"
    unsaid = (
        "update store.edge set child_number = null, parent_number = null where rowid in ({rows})"
    )
    yield _Check("derived", "edge", where, "t.child", "numbers are not those of its models", settled, (unsaid,), column="child_number")  # fmt: skip
    where = "exists (select 1 from store.model m where m.id = t.model_id and m.number is distinct from t.model_number)"
    unsaid = "update store.address set model_number = null where rowid in ({rows})"
    yield _Check("derived", "address", where, "t.uri", "number is not that of its model", settled, (unsaid,), column="model_number")  # fmt: skip


def _aliases() -> Iterator[_Check]:
    """Aliases that are not what the last of their events says: a lost alias is made again, a lost event is noted."""
    last = "(from store.alias_event qualify row_number() over (partition by name order by step desc) = 1)"
    where = f"t.new_id is not null and (t.name, t.step) in (select (name, step) from {last}) and t.name not in (select name from store.alias)"
    of_them = "from store.alias_event where rowid in ({rows})"
    again = f"insert into store.alias select name, new_id {of_them} and new_id in (select id from store.model)"
    removed = (
        "insert into store.alias_event select name, step + 1, now(), 'reg doctor', new_id, new_name, null, null, "
        f"'its model is not in the catalog' {of_them}"
    )
    repair = "set again, or noted as removed where its model is not there any more"
    yield _Check("derived", "alias_event", where, "t.name", "the last event names a model, and there is no such alias", repair, (again, removed))  # fmt: skip
    where = f"not exists (select 1 from {last} x where x.name = t.name and x.new_id = t.model_id)"
    noted = (
        "insert into store.alias_event select t.name, coalesce(l.step, 0) + 1, now(), 'reg doctor', l.new_id, l.new_name, "
        f"t.model_id, n.name, 'found so, and not who did it' from store.alias t join store.named n on n.id = t.model_id "
        f"left join {last} l on l.name = t.name where t.rowid in ({{rows}})"
    )
    yield _Check("derived", "alias", where, "t.name", "the last event of it names another model, or none", "noted as it is", (noted,), lost="who set it, when and why", column="model_id")  # fmt: skip


def _selves() -> Iterator[_Check]:
    """Declared edges from a model to itself: no claim makes one, while a merge may well give one of its parents."""
    where = "t.child = t.parent and t.status in ('declared', 'inferred')"
    yield _Check("self", "edge", where, "t.child", "a model descends from itself", "the rows are removed")  # fmt: skip


def _counts(reader: Reader) -> Iterator[Finding]:
    """Models whose sums are not those of their tensors."""
    differ = (
        "select m.id, n, p, b from store.model m join (select model_id, count(*) as n, sum(n_params)::bigint as p, "
        "sum(n_bytes)::bigint as b from store.tensor group by model_id) s on s.model_id = m.id "
        "where (m.n_tensors, m.n_params, m.n_bytes) is distinct from (n, p, b)"
    )
    ids = [row["id"][:12] for row in reader.rows(f"select id from ({differ}) order by id")]
    if ids:
        mend = f"update store.model set n_tensors = n, n_params = p, n_bytes = b from ({differ}) s where s.id = model.id"
        yield Finding(
            "counts", "model", len(ids), f"sums are not those of their tensors: {examples(ids, len(ids))}",
            repair="counted anew", mends=((mend, ()),), can_repair=True,
        )  # fmt: skip


def _unplaced(reader: Reader) -> Iterator[Finding]:
    """Models that are nowhere: what was measured of them is still true."""
    ids = [
        row["id"][:12]
        for row in reader.rows(
            "select id from store.model where status not in ('latent', 'listed') "
            "and id not in (select model_id from store.address) order by id"
        )
    ]
    if ids:
        detail = f"models without a place: their files are gone, what is known of them is kept: {examples(ids, len(ids))}"
        yield Finding(
            "unplaced", "model", len(ids), detail, repair="reg gc removes those that nothing refers to",
            is_damage=False,
        )  # fmt: skip

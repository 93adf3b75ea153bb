"""The rows of the catalog as typed classes: one class per table of `schema/`.

`schema/*.sql` says what each column means and in which unit; a test holds both equal, column by column. The same
classes are what a catalog on PostgreSQL would be made from, with the foreign keys declared here.
"""

from datetime import datetime
from typing import Annotated, ClassVar

from sqlmodel import ARRAY, BigInteger, Field, Float, Integer, SQLModel

_MODEL = "store.model.id"

Count = Annotated[int, Field(sa_type=BigInteger)]
"""A whole number of 64 bits."""

CountOrNone = Annotated[int | None, Field(sa_type=BigInteger)]
"""A whole number of 64 bits, or nothing."""


class Stored(SQLModel):
    """A row of a table in the schema ``store``."""

    __table_args__ = {"schema": "store"}


class Model(Stored, table=True):
    """A node of the lineage graph."""

    __tablename__: ClassVar[str] = "model"
    id: str = Field(primary_key=True)
    kind: str
    status: str
    digest_name: str
    signature: str | None
    dtype: str | None
    n_params: CountOrNone
    n_bytes: CountOrNone
    n_tensors: CountOrNone
    created_at: datetime
    called: str | None = None
    number: int | None = None


class Address(Stored, table=True):
    """A place where a model was found."""

    __tablename__: ClassVar[str] = "address"
    uri: str = Field(primary_key=True)
    root: str
    model_id: str = Field(foreign_key=_MODEL)
    source: str
    layout: str
    name: str
    architecture: str | None
    family: str | None
    tokenizer: str | None
    license: str | None
    config: str
    known_since: datetime
    seen_at: datetime
    listed_kind: str | None = None
    revision: str | None = None
    task: str | None = None
    library: str | None = None
    downloads: CountOrNone = None
    likes: CountOrNone = None
    published_at: datetime | None = None
    modified_at: datetime | None = None
    says: str | None = None
    listing: str | None = None
    listed: str | None = None
    model_number: int | None = None


class File(Stored, table=True):
    """A file of an address, as it was when it was read."""

    __tablename__: ClassVar[str] = "file"
    uri: str = Field(primary_key=True)
    path: str = Field(primary_key=True)
    size_bytes: Count
    mtime_ns: Count
    inode: Count
    format: str
    etag: str | None
    xet: str | None


class Tensor(Stored, table=True):
    """A tensor of a model.

    On DuckDB the key is kept by whoever writes: an index of so many rows would be most of the file, and be written again
    with every transaction.
    """

    __tablename__: ClassVar[str] = "tensor"
    model_id: str = Field(primary_key=True, foreign_key=_MODEL)
    name: str = Field(primary_key=True)
    dtype: str
    shape: str
    n_params: Count
    n_bytes: Count
    layer: int | None
    module: str
    digest: str | None


class Claim(Stored, table=True):
    """What somebody says about a model."""

    __tablename__: ClassVar[str] = "claim"
    id: str = Field(primary_key=True)
    uri: str
    model_id: str = Field(foreign_key=_MODEL)
    predicate: str
    object: str
    relation: str | None
    coefficient: float | None
    source: str
    raw: str
    resolved_id: str | None


class Edge(Stored, table=True):
    """An edge of the lineage graph."""

    __tablename__: ClassVar[str] = "edge"
    child: str = Field(primary_key=True, foreign_key=_MODEL)
    parent: str = Field(primary_key=True, foreign_key=_MODEL)
    relation: str = Field(primary_key=True)
    role: str = Field(primary_key=True)
    status: str = Field(primary_key=True)
    coefficient: float | None
    confidence: float
    run_id: str | None
    created_at: datetime
    child_number: int | None = None
    parent_number: int | None = None


class Evidence(Stored, table=True):
    """A reason for an edge."""

    __tablename__: ClassVar[str] = "evidence"
    id: str = Field(primary_key=True)
    child: str = Field(foreign_key=_MODEL)
    parent: str = Field(foreign_key=_MODEL)
    relation: str
    status: str
    method: str
    version: str
    statistic: str
    value: float | None
    scope: str
    detail: str


class Score(Stored, table=True):
    """A benchmark result."""

    __tablename__: ClassVar[str] = "score"
    id: str = Field(primary_key=True)
    model_id: str = Field(foreign_key=_MODEL)
    task: str
    metric: str
    value: float
    stderr: float | None
    n: CountOrNone
    harness: str | None
    harness_version: str | None
    shots: CountOrNone
    origin: str
    source: str
    scored_at: str | None
    raw: str


class Recipe(Stored, table=True):
    """What was asked of a merge."""

    __tablename__: ClassVar[str] = "recipe"
    digest: str = Field(primary_key=True)
    canonical: str
    created_at: datetime


class Run(Stored, table=True):
    """One execution of a recipe."""

    __tablename__: ClassVar[str] = "run"
    id: str = Field(primary_key=True)
    recipe: str = Field(foreign_key="store.recipe.digest")
    status: str
    output: str
    model_id: str | None = Field(foreign_key=_MODEL)
    engine_version: str
    process: Count
    started_at: datetime
    ended_at: datetime | None
    seconds: float | None
    read_bytes: CountOrNone
    write_bytes: CountOrNone
    error: str | None
    state: str | None


class Problem(Stored, table=True):
    """A file that could not be used."""

    __tablename__: ClassVar[str] = "problem"
    uri: str = Field(primary_key=True)
    file: str = Field(primary_key=True)
    error: str = Field(primary_key=True)
    detail: str
    seen_at: datetime


class Pair(Stored, table=True):
    """A pair of models whose delta was measured."""

    __tablename__: ClassVar[str] = "pair"
    child: str = Field(primary_key=True, foreign_key=_MODEL)
    base: str = Field(primary_key=True, foreign_key=_MODEL)
    version: str
    scope: str
    n_aligned: Count
    n_cropped: Count
    n_only_child: Count
    n_only_base: Count
    n_mismatched: Count
    n_uncounted: Count
    read_bytes: Count
    seconds: float
    measured_at: datetime
    abs_p01: float | None
    abs_p10: float | None
    abs_p25: float | None
    abs_p50: float | None
    abs_p75: float | None
    abs_p90: float | None
    abs_p99: float | None
    top1_mass_l2: float | None
    top20_mass_l2: float | None
    top1_mass_l1: float | None
    top20_mass_l1: float | None


class Delta(Stored, table=True):
    """Accumulators of one tensor of one pair."""

    __tablename__: ClassVar[str] = "delta"
    child: str = Field(primary_key=True, foreign_key=_MODEL)
    base: str = Field(primary_key=True, foreign_key=_MODEL)
    tensor: str = Field(primary_key=True)
    status: str
    layer: int | None
    module: str
    child_dtype: str | None
    base_dtype: str | None
    child_shape: str | None
    base_shape: str | None
    n: CountOrNone
    n_zero: CountOrNone
    n_positive: CountOrNone
    n_negative: CountOrNone
    n_nonfinite: CountOrNone
    sum_delta: float | None
    sum_sq: float | None
    sum_cube: float | None
    sum_fourth: float | None
    sum_abs: float | None
    max_abs: float | None
    min_delta: float | None
    max_delta: float | None
    base_sum_sq: float | None
    base_dot: float | None
    base_sum_abs: float | None
    base_max_abs: float | None
    n_within_0002: CountOrNone
    n_within_0005: CountOrNone
    n_within_001: CountOrNone
    n_within_002: CountOrNone
    n_within_005: CountOrNone
    n_within_01: CountOrNone
    n_within_03: CountOrNone
    abs_p01: float | None
    abs_p10: float | None
    abs_p25: float | None
    abs_p50: float | None
    abs_p75: float | None
    abs_p90: float | None
    abs_p99: float | None
    top1_mass_l2: float | None
    top20_mass_l2: float | None
    top1_mass_l1: float | None
    top20_mass_l1: float | None


class Histogram(Stored, table=True):
    """The histogram of one tensor's delta; its lists are of one length."""

    __tablename__: ClassVar[str] = "histogram"
    child: str = Field(primary_key=True, foreign_key=_MODEL)
    base: str = Field(primary_key=True, foreign_key=_MODEL)
    tensor: str = Field(primary_key=True)
    bins: list[int] = Field(sa_type=ARRAY(Integer))
    counts: list[int] = Field(sa_type=ARRAY(BigInteger))
    sums_abs: list[float] = Field(sa_type=ARRAY(Float))
    sums_sq: list[float] = Field(sa_type=ARRAY(Float))


class Spectrum(Stored, table=True):
    """Singular values of the delta of one matrix."""

    __tablename__: ClassVar[str] = "spectrum"
    child: str = Field(primary_key=True, foreign_key=_MODEL)
    base: str = Field(primary_key=True, foreign_key=_MODEL)
    tensor: str = Field(primary_key=True)
    sigma_max: float
    frobenius: float
    stable_rank: float
    effective_rank: float | None
    participation_ratio: float
    energy_rank: CountOrNone
    numerical_rank: CountOrNone
    top4_energy: float
    intruder_count: CountOrNone
    method: str
    n_components: Count


class Sketch(Stored, table=True):
    """Sampled weights of a model."""

    __tablename__: ClassVar[str] = "sketch"
    model_id: str = Field(primary_key=True, foreign_key=_MODEL)
    spec: str = Field(primary_key=True)
    dtype: str
    patches: str
    n_scalars: Count
    scalars: bytes
    invariants: str
    read_bytes: Count
    taken_at: datetime


class Alias(Stored, table=True):
    """A name of our own for a model, as it is now."""

    __tablename__: ClassVar[str] = "alias"
    name: str = Field(primary_key=True)
    model_id: str = Field(foreign_key=_MODEL)


class AliasEvent(Stored, table=True):
    """A change of an alias; the models that it speaks of may be gone."""

    __tablename__: ClassVar[str] = "alias_event"
    name: str = Field(primary_key=True)
    step: int = Field(primary_key=True)
    changed_at: datetime
    who: str
    old_id: str | None
    old_name: str | None
    new_id: str | None
    new_name: str | None
    why: str | None


class Component(Stored, table=True):
    """What was inferred of models that hang together."""

    __tablename__: ClassVar[str] = "component"
    id: str = Field(primary_key=True)
    spec: str
    found: str
    inferred_at: datetime


class Clans(Stored, table=True):
    """Which models hang together, as far as they were compared."""

    __tablename__: ClassVar[str] = "clans"
    spec: str = Field(primary_key=True)
    rules: str
    found: str
    inferred_at: datetime


def references(table: str) -> list[tuple[str, str]]:
    """(table, column) of every column that refers to the key of ``table``; names without the schema's."""
    return [
        (other.name, key.parent.name)
        for other in SQLModel.metadata.sorted_tables
        for key in sorted(other.foreign_keys, key=lambda key: key.parent.name)
        if key.target_fullname.split(".")[:2] == ["store", table]
    ]

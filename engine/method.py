"""What a merge method is.

A method is one plain function in one file of `engine/methods/`, named as the file. `@merge_method` reads its
signature and never rewrites it: tests call the function directly, the recipe validates against what was read.

The first argument receives the models, in the recipe's order:
    ``weights`` (space "weight"): each model's tensor;
    ``deltas``  (space "delta"):  each model's task vector, θ_i - θ_base.
Keyword-only arguments named in `CONTEXT` are filled in by the engine; all others are the user's parameters,
annotated with one of the aliases below, which carry range and grain (one per model, or one for the merge).

A method that must know something of the whole model first, such as a threshold, has a survey: a function that
looks at every tensor, as often as it likes, and returns what the method then gets as ``whole`` for each tensor.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol, TypeVar, get_args, get_origin, get_type_hints

import torch

from engine.draws import Draws
from registry.errors import BadParameter

Space = Literal["weight", "delta"]
Scope = Literal["element", "tensor", "model"]
When = Mapping[str, tuple[float | bool | str, ...]]

Tensors = Sequence[torch.Tensor]
"""n tensors of one shape, float32, in the recipe's order."""

CONTEXT = ("base", "tensor", "draws", "whole", "statistics", "start")
"""Keyword-only arguments the engine fills in: the base's tensor (float32, the shape of each model's), the
tensor's name (str), the random numbers of this slice (`engine.draws.Draws`), what the method's survey returned
(None where there was no survey), the models' stored statistics of this tensor, such as Fisher information: one
float32 tensor per model, or None where the models have none of this tensor, and the flat index of the first entry."""


@dataclass(frozen=True)
class Seen:
    """One tensor, or a slice of one, as a survey sees it.

    Attributes:
        tensor: its name.
        models: as the method gets them: weights or task vectors, (n, *shape) float32.
        base: the base's tensor, (*shape) float32, where there is one.
        draws: random numbers of this tensor.
        statistics: as in `CONTEXT`.
        start: flat index of the first entry.
        shape: of the whole tensor, where it is known.
    """

    tensor: str
    models: Tensors
    base: torch.Tensor | None = None
    draws: Draws | None = None
    statistics: Tensors | None = None
    start: int = 0
    shape: tuple[int, ...] | None = None

    @property
    def place(self) -> tuple[str, int]:
        """What tells this slice from the others."""
        return self.tensor, self.start


T = TypeVar("T")


class Look(Protocol):
    """A look at every slice of a tensor, or of all tensors of a merge: calls a pure function on each."""

    def __call__(
        self, measure: Callable[[Seen], T], /, *, sample: int = 0
    ) -> Iterator[tuple[str, T]]:
        """Yield the name of each slice's tensor and what ``measure`` returned for it, in order of names and places.

        With ``sample``, an estimate: only pieces of slices are looked at, evenly spread, of about so many entries.
        """


def alone(seen: Seen) -> Look:
    """A look at one tensor that is at hand as a whole."""

    def look(measure: Callable[[Seen], T], /, *, sample: int = 0) -> Iterator[tuple[str, T]]:
        del sample
        yield seen.tensor, measure(seen)

    return look


@dataclass(frozen=True)
class Range:
    """A closed interval of floats, open at the low end if ``open_low``."""

    low: float
    high: float
    open_low: bool = False

    def __contains__(self, value: float) -> bool:
        """Tell whether ``value`` lies inside; NaN never does."""
        return (self.low < value if self.open_low else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        return f"{'(' if self.open_low else '['}{self.low:g}, {self.high:g}]"


PER_MODEL = "per model"
"""Marks a parameter of which each model has its own value."""

PerModel = float | Sequence[float]
"""One value for all models, or one per model in the recipe's order."""

_LARGE = 1e6

Weight = Annotated[PerModel, Range(-_LARGE, _LARGE), PER_MODEL]
"""Coefficient of each model, w_i."""

Density = Annotated[PerModel, Range(0.0, 1.0, open_low=True), PER_MODEL]
"""Fraction of a task vector's entries that is kept, in (0, 1]."""

Lambda = Annotated[float, Range(-_LARGE, _LARGE)]
"""Scale of the merged task vector, λ."""

Interpolation = Annotated[float, Range(0.0, 1.0)]
"""Position between two models, t in [0, 1]: 0 is the first, 1 the second."""

Scale = Annotated[float, Range(-_LARGE, _LARGE)]
"""Factor on a weight or a score."""

Factor = Annotated[PerModel, Range(-_LARGE, _LARGE), PER_MODEL]
"""Factor on a model's weights."""

Positive = Annotated[float, Range(0.0, _LARGE)]
"""A number of at least 0."""

Fraction = Annotated[float, Range(0.0, 1.0)]
"""A number in [0, 1]."""

Share = Annotated[PerModel, Range(0.0, 1.0), PER_MODEL]
"""A number in [0, 1] that each model may have for itself."""

Count = Annotated[int, Range(0, _LARGE)]
"""A whole number of at least 0."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method, as read from its signature.

    Attributes:
        name: as in recipes (a trailing underscore of the Python name is dropped: ``lambda_`` is ``lambda``).
        default: None when the user must give it.
        kind: "number", "count" (a whole number), "flag" or "choice".
        range: of numbers; None otherwise.
        choices: of choices; empty otherwise.
        per_model: each model may have its own value.
    """

    name: str
    default: float | bool | str | None
    kind: Literal["number", "count", "flag", "choice"]
    range: Range | None
    choices: tuple[str, ...]
    per_model: bool

    @property
    def keyword(self) -> str:
        """The Python keyword of this parameter."""
        return "lambda_" if self.name == "lambda" else self.name

    @property
    def allowed(self) -> str:
        """The right values, in words."""
        if self.kind in {"number", "count"}:
            return f"a {'whole ' if self.kind == 'count' else ''}number in {self.range}"
        return "true or false" if self.kind == "flag" else "one of " + ", ".join(self.choices)

    def check(self, value: object) -> float | bool | str:
        """Return ``value`` as this parameter's type.

        Raises:
            BadParameter: naming the value and what is allowed.
        """
        if self.kind == "flag" and isinstance(value, bool):
            return value
        if self.kind == "choice" and isinstance(value, str) and value in self.choices:
            return value
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and self.range
            and value in self.range
            and (self.kind == "number" or value == int(value))
        ):
            return float(value) if self.kind == "number" else int(value)
        message = f"parameter {self.name} is {value!r}; it must be {self.allowed}"
        raise BadParameter(message, hint="reg methods NAME lists the parameters of a method")


COPIES = (1, 7)
"""`Method.copies` of most methods, whose temporaries go block by block."""


@dataclass(frozen=True)
class Method:
    """A merge method: its arithmetic and what the engine must know to feed it.

    Attributes:
        name: the function's and the file's.
        space: "delta": receives task vectors and returns one, the engine adds the base; "weight": receives and
            returns weights.
        scope: "element": any slice of the flat tensor gives that slice of the result; "tensor": so does it after a
            survey of the tensor's slices, or else needs the tensor whole; "model": after a survey of all tensors.
        paper: arXiv id or another short reference.
        n_models: least and most number of models, without the base.
        makes: "merge", or "edit" for a method that changes one model's task vector.
        compat: name of another tool → the parameters with which the method does what that tool does.
        whole: its survey, and the method, need tensors whole; so do methods that are not of scope "element", have
            no survey and do not go by rows.
        whole_when: parameters with which tensors are needed whole: name → values; one of them is enough.
        survey: ``survey(look, **parameters)``, where the method has one; it takes those of the method's parameters
            that it names. A look at a slice must give what looks at its parts would: counts, extremes, and sums of
            whole blocks of `engine.ops.BLOCK` entries, or of slabs, that are added up in order or exactly.
        survey_when: those with which there is a survey, which gives an "element" method scope "tensor"; {}: always.
        rows: slices are made of whole rows, the slices of a tensor along dim 0; surveyed ones, of whole slabs.
        rows_when: parameters with which they are, too.
        ends_in_sum: it returns what `engine.ops` made of its models, as it is, which is rounded while it is made; of
            slices of the base it gets the shape alone, on the meta device.
        anywhere: an accelerator may do it, see `engine.device`; None: if it ends in a sum.
        copies: float32 copies of a matrix that are held while it is merged: of each model and the base, and beside.
        parameters: the user's, in the order of the signature.
        context: the names of `CONTEXT` that the function asks for.
        summary: first sentence of its docstring.
    """

    name: str
    space: Space
    scope: Scope
    paper: str
    n_models: tuple[int, int]
    parameters: tuple[Parameter, ...]
    context: tuple[str, ...]
    summary: str
    function: Callable[..., torch.Tensor]
    makes: Literal["merge", "edit"] = "merge"
    compat: Mapping[str, Mapping[str, float | bool | str]] = field(default_factory=dict)
    whole_when: When = field(default_factory=dict)
    survey: Callable[..., Any] | None = None
    survey_when: When = field(default_factory=dict)
    rows: bool = False
    rows_when: When = field(default_factory=dict)
    whole: bool = False
    ends_in_sum: bool = False
    anywhere: bool | None = None
    copies: tuple[int, int] = COPIES

    def scope_with(self, values: Mapping[str, Any]) -> Scope:
        """The scope with these parameters."""
        if self.scope == "model" and values.get("scope") == "tensor":
            return "tensor"
        return "tensor" if self.scope == "element" and self.surveys_with(values) else self.scope

    def surveys_with(self, values: Mapping[str, Any]) -> bool:
        """Tell whether there is a survey, with these parameters."""
        always = self.survey is not None and not self.survey_when
        return always or _is_among(values, self.survey_when)

    def rows_with(self, values: Mapping[str, Any]) -> bool:
        """Tell whether slices are made of whole rows, with these parameters."""
        return self.rows or _is_among(values, self.rows_when)

    def needs_whole_with(self, values: Mapping[str, Any]) -> bool:
        """Tell whether tensors cannot be cut into slices, with these parameters."""
        sliced = self.survey or self.rows_with(values) or self.scope == "element"
        return self.whole or not sliced or _is_among(values, self.whole_when)

    def anywhere_with(self, values: Mapping[str, Any]) -> bool:
        """Tell whether an accelerator may merge slices of tensors, with these parameters."""
        cut = not self.needs_whole_with(values) and not _is_among(values, self.rows_when)
        return cut and (self.ends_in_sum if self.anywhere is None else self.anywhere)

    @property
    def base(self) -> Literal["needed", "optional", "none"]:
        """What the method has to do with a base: task vectors have one; others may ask for it, or take it if given."""
        if self.space == "delta":
            return "needed"
        asked = inspect.signature(self.function).parameters.get("base")
        if asked is None:
            return "none"
        return "needed" if asked.default is asked.empty else "optional"

    @property
    def keeps_state(self) -> bool:
        """Tell whether a result can be merged into again: the survey finds values for parameters of the method."""
        return self.survey is not None and "n_merged" in self.surveyed

    @property
    def surveyed(self) -> tuple[str, ...]:
        """Names of the parameters that the survey takes."""
        taken = inspect.signature(self.survey).parameters if self.survey else ()
        return tuple(p.name for p in self.parameters if p.keyword in taken)

    def parameter(self, name: str) -> Parameter | None:
        """The parameter of this name, if there is one."""
        return next((p for p in self.parameters if p.name == name), None)


def _is_among(values: Mapping[str, Any], when: When) -> bool:
    """Tell whether a parameter has one of the values that are named for it."""
    return any(values.get(name) in those for name, those in when.items())


MANY = 1000
"""The most models one merge takes."""

F = TypeVar("F", bound=Callable[..., torch.Tensor])


def merge_method(
    *,
    space: Space,
    scope: Scope,
    paper: str,
    n_models: tuple[int, int] = (1, MANY),
    makes: Literal["merge", "edit"] = "merge",
    compat: Mapping[str, Mapping[str, float | bool | str]] | None = None,
    whole_when: When | None = None,
    survey: Callable[..., Any] | None = None,
    survey_when: When | None = None,
    rows: bool = False,
    rows_when: When | None = None,
    whole: bool = False,
    ends_in_sum: bool = False,
    anywhere: bool | None = None,
    copies: tuple[int, int] = COPIES,
) -> Callable[[F], F]:
    """Declare a merge method, see `Method`; the function stays the plain function it is."""

    def declare(function: F) -> F:
        function.declared = Method(  # type: ignore[attr-defined]
            name=function.__name__, space=space, scope=scope, paper=paper, n_models=n_models,
            parameters=tuple(_parameters(function)),
            context=tuple(n for n in inspect.signature(function).parameters if n in CONTEXT),
            summary=inspect.getdoc(function).split("\n", 1)[0],  # type: ignore[union-attr]
            function=function, makes=makes, compat=compat or {}, whole_when=whole_when or {},
            survey=survey, survey_when=survey_when or {}, rows=rows, rows_when=rows_when or {},
            whole=whole, ends_in_sum=ends_in_sum, anywhere=anywhere, copies=copies,
        )  # fmt: skip
        return function

    return declare


def per_model(value: PerModel, n: int) -> list[float]:
    """One float per model: a scalar is repeated, a sequence must have length ``n``.

    Raises:
        BadParameter: for a sequence of another length.
    """
    if isinstance(value, int | float):
        return [float(value)] * n
    if len(value) != n:
        message = f"{len(value)} values for {n} models"
        raise BadParameter(message, hint="give one value, or one per model in the recipe's order")
    return [float(v) for v in value]


def _parameters(function: Callable[..., Any]) -> list[Parameter]:
    """Read the user's parameters from a signature."""
    hints = get_type_hints(function, include_extras=True)
    found = []
    for name, argument in inspect.signature(function).parameters.items():
        if argument.kind is not argument.KEYWORD_ONLY or name in CONTEXT:
            continue
        hint = hints[name]
        default = None if argument.default is argument.empty else argument.default
        marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
        choices = get_args(hint) if get_origin(hint) is Literal else ()
        found.append(
            Parameter(
                name=name.rstrip("_"),
                default=default,
                kind=_kind(hint, choices),
                range=next((m for m in marks if isinstance(m, Range)), None),
                choices=choices,
                per_model=PER_MODEL in marks,
            )
        )
    return found


def _kind(hint: Any, choices: tuple[str, ...]) -> Literal["number", "count", "flag", "choice"]:
    """The kind of a parameter with this type."""
    if choices:
        return "choice"
    if hint is bool:
        return "flag"
    return "count" if get_origin(hint) is Annotated and get_args(hint)[0] is int else "number"

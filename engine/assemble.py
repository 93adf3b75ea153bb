"""Assembling: from what was asked to a plan whose every source is known.

Texts become ids, ids become parents; adapters are put on, recipes that stand before this one become models,
vocabularies are brought together, bases are aligned. The two steps are apart because what is recorded of a merge is
only the pinned recipe: `decide` does the second again when it is reproduced.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from engine import pin, provenance
from engine.adapter import wear
from engine.adapter_delta import needs_base
from engine.adapter_merge import plan_adapters
from engine.lookup import identify, load_parent
from engine.ot_fusion import fuse
from engine.parent import WORN, Parent
from engine.pinned import ZERO, PinnedRecipe
from engine.plan import MEMORY_BYTES, Plan
from engine.planner import make_plan
from engine.reader import Reader
from engine.recipe import AdapterSize, Alignment, Recipe
from engine.spread import Spread, spread
from engine.stage import result_of
from engine.stats import VERSION
from engine.vocabulary import chat_template_text, unify
from engine.weight_matching import weight_matching
from registry.catalog import Catalog
from registry.errors import BadAddress, BadRecipe, NotHomologous, UnknownModel
from registry.lineage import Lineage
from registry.progress import SILENT, Progress
from registry.verdict import mergeable

_STAGE = "recipe:"


def pin_down(
    catalog: Catalog, recipe: Recipe, *, allow_unrelated: bool, progress: Progress = SILENT
) -> PinnedRecipe:
    """Resolve a recipe's models and pin it.

    What the recipe alone can be refused for is refused before any model is looked at.

    Raises:
        UnknownModel: a model that is neither in the catalog nor on disk.
        NotHomologous: no common base is known and ``allow_unrelated`` is not set.
        RegError: as `engine.pin.pin`.
    """
    with catalog.database.kept_open():  # opening once for all questions is what takes the time
        return _pinned_down(catalog, recipe, allow_unrelated=allow_unrelated, progress=progress)


def _pinned_down(
    catalog: Catalog, recipe: Recipe, *, allow_unrelated: bool, progress: Progress
) -> PinnedRecipe:
    """As `pin_down`."""
    method = pin.check(recipe)
    made = {
        name: pin_down(catalog, stage, allow_unrelated=allow_unrelated, progress=progress)
        for name, stage in recipe.stages.items()
    }
    stages = {_STAGE + stage.digest: stage for stage in made.values()}

    def named(text: str) -> str:
        return _STAGE + made[text].digest if text in made else _worn(catalog, text, progress)

    ids = [named(part.model) for part in recipe.models]
    base = named(recipe.base) if recipe.base else None
    given = [
        p.statistics and identify(catalog, p.statistics, progress=progress) for p in recipe.models
    ]
    if _are_adapters(catalog, ids):
        if base is None and any(needs_base(load_parent(catalog, id_)) for id_ in ids):
            base = _base_of_adapters(catalog, ids)
        if method.base == "needed":
            base = base or ZERO
        recipe = replace(recipe, adapter=recipe.adapter or AdapterSize())
        return pin.pin(recipe, base, ids)
    if recipe.adapter is not None:
        message = (
            "the recipe limits the adapter that it makes, but not all of its models are adapters"
        )
        raise BadRecipe(message, hint="leave out adapter:, --rank and --energy")
    if base is None and method.base == "needed":
        base = _common_base(catalog, recipe, list(dict.fromkeys(_bodies(ids, stages))))
    if base is not None:
        ids = [_dressed(catalog, id_, base) for id_ in ids]
    recipe = _continued(catalog, recipe, ids, base)
    recipe = _by_id(recipe, ids, base)
    asked = pin.pin(recipe, base, ids, statistics=given if any(given) else (), stages=stages)
    if not allow_unrelated:
        _refuse_strangers(catalog, asked, base)
    return asked


def decide(catalog: Catalog, asked: PinnedRecipe, *, memory_bytes: int = MEMORY_BYTES) -> Plan:
    """Load the parents of a pinned recipe and decide every step."""
    if asked.adapter is not None:
        base, adapters = load_adapters(catalog, asked)
        return plan_adapters(asked, adapters, base)
    loaded: dict[str, Parent] = {}

    def load(id_: str) -> Parent:
        if id_ not in loaded:
            body, plus, adapter = id_.rpartition(WORN)
            if id_ in asked.stages:
                stage = decide(catalog, asked.stages[id_], memory_bytes=memory_bytes)
                loaded[id_] = result_of(stage, id_, memory_bytes)
            else:
                loaded[id_] = wear(load(body), load(adapter)) if plus else load_parent(catalog, id_)
        return loaded[id_]

    with catalog.database.kept_open():
        base = load(asked.base) if asked.base else None
        models = [load(id_) for id_ in asked.models]
        statistics = [load(id_) for id_ in asked.statistics if id_]
    catalog.database.let_go()
    notes: list[str] = []
    if asked.align:
        models = _aligned(asked.align, base, models, notes)
    vocabulary = None
    if asked.tokenizer:
        parents = [base, *models] if base else models
        vocabulary = unify(parents, asked.tokenizer, base=base, names=_texts(parents))
        notes += vocabulary.notes
        base, models = (
            (vocabulary.parents[0] if base else None),
            list(vocabulary.parents[1 if base else 0 :]),
        )
    template = None
    if asked.chat_template is not None:
        template = chat_template_text(asked.chat_template, [base, *models] if base else models)
    plan = make_plan(
        asked,
        base,
        models,
        statistics=statistics,
        vocabulary=vocabulary,
        chat_template=template,
        notes=notes,
    )
    return replace(plan, spreads=_spreads(catalog, plan))


def _spreads(catalog: Catalog, plan: Plan) -> tuple[Spread, ...]:
    """How the task vectors that a survey of the whole model looks at are spread; () where one was not measured."""
    steps = [step for step in plan.steps if step.action == "merge"]
    is_model_wide = steps and plan.surveys(steps[0]) == "model"
    if not is_model_wide or plan.base is None or plan.recipe.method.space != "delta":
        return ()
    if any(
        s.base is None or {x.name for x in s.inputs} != {s.name} or not s.sliceable for s in steps
    ):
        return ()
    names, n = [step.name for step in steps], sum(step.n_params for step in steps)
    found = []
    with catalog.read() as reader:
        for model in plan.models:
            pair = [model.id, plan.base.id, names]
            known = reader.rows(
                "select count(*) as n from store.delta d join store.pair p using (child, base) where child = ? "
                "and base = ? and tensor in (select store.each(?)) and d.status = 'aligned' and p.version = ? "
                "and p.scope = 'full'", [*pair, VERSION],
            )  # fmt: skip
            if known[0]["n"] < len(names):
                return ()
            bins = reader.rows(
                "select bin, sum(n)::bigint as n from (select unnest(bins) as bin, unnest(counts) as n from "
                "store.histogram where child = ? and base = ? and tensor in (select store.each(?))) group by bin", pair,
            )  # fmt: skip
            found.append(spread(n, {row["bin"]: row["n"] for row in bins}))
    return tuple(found)


def load_adapters(catalog: Catalog, asked: PinnedRecipe) -> tuple[Parent | None, list[Parent]]:
    """The base of adapters that become one, where it is asked for, and the adapters."""
    base = load_parent(catalog, asked.base) if asked.base not in {None, ZERO} else None
    return base, [load_parent(catalog, id_) for id_ in asked.models]


def _worn(catalog: Catalog, text: str, progress: Progress) -> str:
    """The id of a model, or of one with adapters on: ``model+adapter``."""
    try:
        return identify(catalog, text, progress=progress)
    except (UnknownModel, BadAddress):
        body, plus, adapter = text.rpartition(WORN)
        if not plus:
            raise
        return WORN.join(
            (_worn(catalog, body, progress), identify(catalog, adapter, progress=progress))
        )


def _are_adapters(catalog: Catalog, ids: list[str]) -> bool:
    """Tell whether all models are bare adapters: their merge is an adapter, too."""
    rows = catalog.rows(
        "select id, kind from store.model where id in (select store.each(?))", [ids]
    )
    kinds = {row["id"]: row["kind"] for row in rows}
    return all(kinds.get(id_) == "adapter" for id_ in ids)


def _base_of_adapters(catalog: Catalog, ids: list[str]) -> str | None:
    """The one model that all adapters are known to belong to, where its files are at hand."""
    rows = catalog.rows(
        "select e.parent from store.edge e join store.model m on m.id = e.parent "
        "where e.relation = 'adapter' and m.status = 'full' and e.child in (select store.each(?)) "
        "group by e.parent having count(distinct e.child) = ?",
        [ids, len(set(ids))],
    )
    return str(rows[0]["parent"]) if len(rows) == 1 else None


def _dressed(catalog: Catalog, id_: str, base: str) -> str:
    """A bare adapter among whole models is put on the base."""
    rows = catalog.rows("select kind from store.model where id = ?", [id_])
    return base + WORN + id_ if rows and rows[0]["kind"] == "adapter" else id_


def _bodies(ids: list[str], stages: Mapping[str, PinnedRecipe]) -> list[str]:
    """The whole models that stand behind ids, without adapters and recipes."""
    found = []
    for id_ in ids:
        if id_ in stages:
            stage = stages[id_]
            found += _bodies([*([stage.base] if stage.base else []), *stage.models], stage.stages)
        else:
            found.append(id_.partition(WORN)[0])
    return found


def _common_base(catalog: Catalog, recipe: Recipe, models: list[str]) -> str:
    """The base of task vectors that the recipe does not name."""
    if len(models) == 1 and any(WORN in part.model for part in recipe.models):
        return models[0]
    lineage = Lineage.load(catalog, models)
    base = lineage.common_base(models)
    names = ", ".join(part.model for part in recipe.models)
    if base is None:
        message = f"no common base of {names} is known"
        raise NotHomologous(message, hint="give --base MODEL, or base_model: in the recipe")
    if lineage.nodes[base].status in ("latent", "listed"):
        message = f"the common base of {names} is {lineage.nodes[base].name}, whose files nobody has shown"
        raise BadAddress(message, hint="reg scan its folder, or give --base MODEL")
    return base


def _refuse_strangers(catalog: Catalog, asked: PinnedRecipe, base: str | None) -> None:
    """Refuse models of which it is known, or not known at all, that they share no base."""
    bodies = _bodies(list(asked.models), asked.stages)
    if base is not None:
        base = _bodies([base], asked.stages)[0]
    if asked.align or (len(set(bodies)) == 1 and base in (None, bodies[0])):
        return
    failed = _failed(catalog, bodies, base)
    if (
        failed and base in bodies and asked.method.base == "none"
    ):  # it only says which model is the first
        failed = _failed(catalog, bodies, None) and failed
    if failed:
        hint = "reg stats --base measures them; --allow-unrelated merges nevertheless"
        raise NotHomologous(failed, hint=hint)


def _failed(catalog: Catalog, models: list[str], base: str | None) -> str | None:
    """Why models are no family; None where they are one."""
    verdict = mergeable(catalog, models, base)
    kinds = ("homologous", "aligned", "delta")
    return next((r.detail for r in verdict.reasons if r.check in kinds and r.ok is False), None)


def _continued(catalog: Catalog, recipe: Recipe, ids: list[str], base: str | None) -> Recipe:
    """The recipe with the state of the merge that its first model is, where the method goes on from there."""
    if base is None or not ids or recipe.modules:
        return recipe
    first = next((id_ for id_ in ids if id_ != base), ids[0])
    state = state_of(catalog, first, recipe.method)
    method = pin.check(recipe)
    known = {k: v for k, v in state.items() if method.parameter(k)}
    return replace(recipe, parameters=known | dict(recipe.parameters))


def state_of(catalog: Catalog, model: str, method: str) -> dict[str, Any]:
    """What a method left to go on from when it made ``model``: from the catalog, else from the sidecar; {} for nothing."""
    rows = catalog.rows(
        "select u.state, r.canonical ->> '$.method' as method from store.run u join store.recipe r "
        "on r.digest = u.recipe where u.model_id = ? and u.status = 'COMPLETE' and u.state is not null "
        "order by u.started_at desc, u.id limit 1",
        [model],
    )
    if rows:
        return dict(json.loads(rows[0]["state"])) if rows[0]["method"] == method else {}
    known = catalog.rows("select 1 from store.address where model_id = ? limit 1", [model])
    sidecar = provenance.read_sidecar(catalog.checkpoint(model).root) if known else None
    made = (sidecar or {}).get("recipe")
    same = isinstance(made, dict) and made.get("method") == method
    state = (sidecar or {}).get("state")
    return dict(state) if same and isinstance(state, dict) else {}


def _aligned(
    align: Alignment, base: Parent | None, models: list[Parent], notes: list[str]
) -> list[Parent]:
    """The models in the basis of the base, or of the first of them."""
    anchor = base or models[0]
    turn: Callable[..., Parent] = weight_matching if align.method == "weight_matching" else fuse
    made = []
    with Reader() as reader:
        for model in models:
            if model is anchor or model.id == anchor.id:
                made.append(model)
                continue
            made.append(turn(reader, anchor, model, **align.options))
            notes.append(
                f"{model.name} is brought into the basis of {anchor.name} by {align.method}: {len(made[-1].made)} tensors"
            )
    return made


def _by_id(recipe: Recipe, ids: list[str], base: str | None) -> Recipe:
    """The recipe with ids for the models that its tokenizer and its chat template name."""
    known = {part.model: id_ for part, id_ in zip(recipe.models, ids, strict=True)}
    known |= {recipe.base: base} if recipe.base and base else {}
    chosen = recipe.tokenizer and recipe.tokenizer.renamed(lambda text: known.get(text, text))
    template = recipe.chat_template
    if template is not None:
        template = known.get(template, template)
    return replace(recipe, tokenizer=chosen, chat_template=template)


def _texts(parents: list[Parent]) -> dict[str, Parent]:
    """Every text that may name one of some parents: ids and names."""
    return {text: parent for parent in parents for text in (parent.id, parent.name)}

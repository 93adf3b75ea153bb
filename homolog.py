"""The public Python API: the verbs and nouns of the command line, for notebooks and scripts.

    from pathlib import Path
    import homolog

    catalog = homolog.Catalog(Path("catalog.duckdb"))
    report = homolog.scan(catalog, ["models"])
    verdict = homolog.mergeable(catalog, [homolog.ensure(catalog, name) for name in ("chat", "math")])
    merged = homolog.merge(catalog, homolog.read_recipe(Path("recipe.yaml")), Path("merged"))

A name is loaded when it is first used, so that importing this module costs nothing and asking for what is in a
catalog never loads torch. Wherever a function wants the id of a model, `ensure` gives it for a name, the beginning
of an id, a path, or an @alias.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.casts import record_casts
    from engine.collect import collect
    from engine.descent.afar import Sketched, sketch
    from engine.descent.infer import Inferred, infer
    from engine.extract import Extracted, extract
    from engine.merge import merge, plan, reproduce
    from engine.method import Method
    from engine.methods import all_methods as methods
    from engine.methods import get as method
    from engine.options import Options
    from engine.permission import license_of_plan
    from engine.plan import Plan
    from engine.recipe import AdapterSize, Part, Recipe, out_dtype, parse_rounding
    from engine.recipe_file import read_recipe
    from engine.run_record import Merged
    from engine.stats import Measured, pairs
    from engine.stats import measure as stats
    from engine.stream import merge_streamed
    from engine.suite import Outcome, run_suite
    from engine.verify import Verification, verify
    from registry.alias import Alias, AliasEvent, alias_events, aliases, remove_alias, set_alias
    from registry.bill_of_materials import as_bill
    from registry.candidates import Candidate, Partners, candidates
    from registry.catalog import Catalog, Columns
    from registry.doctor import Diagnosis, examine
    from registry.errors import RegError
    from registry.estimate import Estimate, estimate, unreachable
    from registry.export import Export, export, take_in
    from registry.finding import Finding
    from registry.hub_digests import Digested, digest_remote
    from registry.intake import ImportReport, import_listings
    from registry.license_report import licenses
    from registry.lineage import Lineage
    from registry.pedigree import Pedigree, pedigree
    from registry.place import place
    from registry.provenance_graph import as_prov
    from registry.publication import Asked, Publication, publication
    from registry.push import Push, push, refuse_changed, target_of
    from registry.reason import Reason
    from registry.relatives import Relatives, relatives
    from registry.removal import Removed, collect_garbage, remove
    from registry.scan import ScanReport, ensure, scan
    from registry.scores import Score, read_harness, score_row
    from registry.sealed import query
    from registry.signature import Tampering, sign, tampered
    from registry.verdict import Verdict, mergeable

_HOMES = {
    "engine.casts": ("record_casts",),
    "engine.collect": ("collect",),
    "engine.descent.afar": ("Sketched", "sketch"),
    "engine.descent.infer": ("Inferred", "infer"),
    "engine.extract": ("Extracted", "extract"),
    "engine.merge": ("merge", "plan", "reproduce"),
    "engine.method": ("Method",),
    "engine.methods": ("method", "methods"),
    "engine.options": ("Options",),
    "engine.permission": ("license_of_plan",),
    "engine.plan": ("Plan",),
    "engine.recipe": ("AdapterSize", "Part", "Recipe", "out_dtype", "parse_rounding"),
    "engine.recipe_file": ("read_recipe",),
    "engine.run_record": ("Merged",),
    "engine.stats": ("Measured", "pairs", "stats"),
    "engine.stream": ("merge_streamed",),
    "engine.suite": ("Outcome", "run_suite"),
    "engine.verify": ("Verification", "verify"),
    "registry.alias": (
        "Alias",
        "AliasEvent",
        "alias_events",
        "aliases",
        "remove_alias",
        "set_alias",
    ),
    "registry.bill_of_materials": ("as_bill",),
    "registry.candidates": ("Candidate", "Partners", "candidates"),
    "registry.catalog": ("Catalog", "Columns"),
    "registry.doctor": ("Diagnosis", "examine"),
    "registry.errors": ("RegError",),
    "registry.estimate": ("Estimate", "estimate", "unreachable"),
    "registry.export": ("Export", "export", "take_in"),
    "registry.finding": ("Finding",),
    "registry.hub_digests": ("Digested", "digest_remote"),
    "registry.intake": ("ImportReport", "import_listings"),
    "registry.license_report": ("licenses",),
    "registry.lineage": ("Lineage",),
    "registry.pedigree": ("Pedigree", "pedigree"),
    "registry.place": ("place",),
    "registry.provenance_graph": ("as_prov",),
    "registry.publication": ("Asked", "Publication", "publication"),
    "registry.push": ("Push", "push", "refuse_changed", "target_of"),
    "registry.reason": ("Reason",),
    "registry.relatives": ("Relatives", "relatives"),
    "registry.removal": ("Removed", "collect_garbage", "remove"),
    "registry.scan": ("ScanReport", "ensure", "scan"),
    "registry.scores": ("Score", "read_harness", "score_row"),
    "registry.sealed": ("query",),
    "registry.signature": ("Tampering", "sign", "tampered"),
    "registry.verdict": ("Verdict", "mergeable"),
}
"""Where each name lives."""

_INSIDE = {"method": "get", "methods": "all_methods", "stats": "measure"}
"""What a name is called where it lives, if it is called otherwise."""

_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AdapterSize",
    "Alias",
    "AliasEvent",
    "Asked",
    "Candidate",
    "Catalog",
    "Columns",
    "Diagnosis",
    "Digested",
    "Estimate",
    "Export",
    "Extracted",
    "Finding",
    "ImportReport",
    "Inferred",
    "Lineage",
    "Measured",
    "Merged",
    "Method",
    "Options",
    "Outcome",
    "Part",
    "Partners",
    "Pedigree",
    "Plan",
    "Publication",
    "Push",
    "Reason",
    "Recipe",
    "RegError",
    "Relatives",
    "Removed",
    "ScanReport",
    "Score",
    "Sketched",
    "Tampering",
    "Verdict",
    "Verification",
    "alias_events",
    "aliases",
    "as_bill",
    "as_prov",
    "candidates",
    "collect",
    "collect_garbage",
    "digest_remote",
    "ensure",
    "estimate",
    "examine",
    "export",
    "extract",
    "import_listings",
    "infer",
    "license_of_plan",
    "licenses",
    "merge",
    "merge_streamed",
    "mergeable",
    "method",
    "methods",
    "out_dtype",
    "pairs",
    "parse_rounding",
    "pedigree",
    "place",
    "plan",
    "publication",
    "push",
    "query",
    "read_harness",
    "read_recipe",
    "record_casts",
    "refuse_changed",
    "relatives",
    "remove",
    "remove_alias",
    "reproduce",
    "run_suite",
    "scan",
    "score_row",
    "set_alias",
    "sign",
    "sketch",
    "stats",
    "take_in",
    "tampered",
    "target_of",
    "unreachable",
    "verify",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Load ``name`` from where it lives; the second time it is simply there."""
        if name not in _HOME:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message)
        value = getattr(import_module(_HOME[name]), _INSIDE.get(name, name))
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        """All public names, loaded or not."""
        return list(__all__)

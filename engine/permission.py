"""Whether a merge may be passed on: its licence as the lineage makes it, before anything is written.

A conflict stops a merge, unless a reason is given; the reason is kept as evidence of every edge of the result.
"""

from collections.abc import Iterable, Iterator

from engine import provenance
from engine.plan import Plan
from registry.catalog import Catalog
from registry.errors import LicenseConflict
from registry.fingerprint import digest_text
from registry.license_findings import Effective
from registry.license_report import ALLOWED, license_of_merge
from registry.records import Edge, Evidence
from registry.version import VERSION


def license_of_plan(catalog: Catalog, plan: Plan) -> Effective:
    """The licence that the result of a plan would have; every parent counts, whatever its coefficient."""
    return license_of_merge(catalog, [parent["digest"] for parent in provenance.parents_of(plan)])


def refuse_conflict(license_: Effective, reason: str | None) -> None:
    """Refuse what no licence satisfies, unless somebody says why it may be made nevertheless.

    Raises:
        LicenseConflict: with rule ids and sources.
    """
    if license_.conflicts and reason is None:
        detail = "; ".join(finding.detail for finding in license_.conflicts)
        message = f"the licences of the models cannot all be obeyed: {detail}"
        hint = "--allow-license-conflict REASON merges nevertheless and records why"
        raise LicenseConflict(message, hint=hint)


def allowances(
    license_: Effective, reason: str | None, edges: Iterable[Edge]
) -> Iterator[Evidence]:
    """Evidence, for every edge of a run, that a conflict was known and why it was allowed; none without both."""
    if reason is None or not license_.conflicts:
        return
    detail = "; ".join(finding.detail for finding in license_.conflicts)
    for edge in edges:
        yield Evidence(
            id=digest_text(f"{ALLOWED}\0{edge.run_id}\0{edge.parent}\0{edge.role}"),
            child=edge.child, parent=edge.parent, relation=edge.relation, status=edge.status,
            method=ALLOWED, version=VERSION, statistic="allowed_conflict", value=None, scope="header",
            detail=f"licence conflict allowed: {reason} ({detail})",
        )  # fmt: skip

"""Reasons: what single checks say of models that somebody wants to merge."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """One check: yes, no, or (None) nothing is known or nothing is settled."""

    check: str
    ok: bool | None
    detail: str


def passed(check: str, detail: str) -> Reason:
    """A check that is passed."""
    return Reason(check, ok=True, detail=detail)


def refused(check: str, detail: str) -> Reason:
    """A check that forbids merging."""
    return Reason(check, ok=False, detail=detail)


def unsettled(check: str, detail: str) -> Reason:
    """A check that neither allows nor forbids."""
    return Reason(check, ok=None, detail=detail)

"""What follows from the rules that bind a model: obligations, contradictions, and the licence it may carry.

* `license_drift`: its own licence drops what an ancestor asks for.
* `license_conflict`: no licence satisfies all ancestors, or one of them lets nobody share what was made of it.
* `license_unknown`: somebody whose weights are in it says nothing, or nothing the table knows. Unknown wins over
  permissive: until that is settled nobody knows whether the result may be shared.

Facts about texts, not legal advice.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from registry.license_table import UNKNOWN, WAIVED, Rule, Table, Value
from registry.licensing import Descent, Held, Licensed, bound, own_rules

Kind = Literal["license_conflict", "license_drift", "license_unknown"]

_ND, _SA, _FAMILY = "no_derivatives", "share_alike", "no_improve_other_llm"
_EVERYDAY = ("notice", "state_changes", "no_endorsement")
_APART = (UNKNOWN, WAIVED, _ND)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: of finding.
        model: id of the model it is about.
        about: which conflict of the table; the licence that is dropped; empty for unknown ones.
        ancestors: ids of those whose rules are concerned, the model itself possibly among them.
        rules: ids of these rules.
        detail: in words, with rule ids and sources.
        inherited: a parent has it already.
    """

    kind: Kind
    model: str
    about: str
    ancestors: tuple[str, ...]
    rules: tuple[str, ...]
    detail: str
    inherited: bool = False


@dataclass(frozen=True)
class Obligation:
    """One thing to be done by whoever passes a model on.

    Attributes:
        atom: what kind of thing.
        value: a policy, a text or a number; None where there is none.
        text: in words, with rule ids and sources.
        rules: ids of the rules that ask for it.
        ancestors: ids of the models under whose licences they stand.
    """

    atom: str
    value: Value
    text: str
    rules: tuple[str, ...]
    ancestors: tuple[str, ...]


@dataclass(frozen=True)
class Effective:
    """The licence of a model as its lineage makes it.

    Attributes:
        model: its id.
        declared: what its cards say.
        held: all rules that bind it, in order.
        obligations: what follows, joined over ancestors, in the table's order.
        findings: conflicts, drift, unknown.
        suggested: identifier of the one licence that it may carry; None where there is none or more than one.
        why: why that one, or why none.
    """

    model: str
    declared: tuple[str, ...]
    held: tuple[Held, ...]
    obligations: tuple[Obligation, ...]
    findings: tuple[Finding, ...]
    suggested: str | None
    why: str

    @property
    def conflicts(self) -> tuple[Finding, ...]:
        """The findings that stop a merge."""
        return tuple(f for f in self.findings if f.kind == "license_conflict")

    @property
    def remarkable(self) -> bool:
        """Whether there is more to say than that notices are to be kept."""
        return bool(self.findings) or any(o.atom not in _EVERYDAY for o in self.obligations)

    @property
    def summary(self) -> str:
        """The licence and what is asked, in one line."""
        asked = [f"{o.atom}{_shown(o.value)}" for o in self.obligations]
        conflicts = [f"{f.about}: {', '.join(f.rules)}" for f in self.conflicts]
        said = f"licence: {self.suggested or 'no single one'} ({self.why})"
        return "; ".join([said, *conflicts, *([f"asked: {', '.join(asked)}"] if asked else [])])

    @property
    def atoms(self) -> tuple[tuple[str, Value], ...]:
        """(atom, value) of all that binds it, each once, in order."""
        found = {(h.rule.atom, h.rule.value) for h in self.held}
        return tuple(sorted(found, key=lambda pair: (pair[0], str(pair[1] or ""))))


def effective(
    models: Iterable[Licensed],
    descents: Iterable[Descent],
    table: Table,
    only: Collection[str] | None = None,
) -> dict[str, Effective]:
    """The effective licence of models.

    Args:
        models: all that take part; what is said does not depend on their order.
        descents: edges among them.
        table: of licences.
        only: ids of those to judge; None: all.
    """
    known = {model.id: model for model in sorted(models, key=lambda m: (m.name, m.id))}
    edges = set(descents)
    held = bound(known.values(), edges, table)
    parents: dict[str, set[str]] = defaultdict(set)
    for edge in edges:
        if edge.parent in known and edge.parent != edge.child:
            parents[edge.child].add(edge.parent)
    return {
        id_: _Case(known, held, id_, table).judge(parents[id_])
        for id_ in known
        if only is None or id_ in only
    }


def covered(rule: Rule, by: Iterable[Rule], table: Table) -> bool:
    """Whether one of other rules asks for at least what a rule asks for."""
    return any(other.atom == rule.atom and _as_strict(rule, other, table) for other in by)


def _as_strict(rule: Rule, other: Rule, table: Table) -> bool:
    """Whether ``other``, of the same atom, is as strict."""
    mine, its = rule.value, other.value
    if isinstance(mine, int) and isinstance(its, int):
        return its <= mine
    if rule.atom == _SA:
        return str(its) in joinable(str(mine), table)
    if rule.atom == "name_prefix":
        return str(its).startswith(str(mine))
    return mine == its


def joinable(license_id: str, table: Table) -> frozenset[str]:
    """The copyleft licences under which a work of one of them may be shared, itself among them."""
    found, todo = {license_id}, [license_id]
    while todo:
        for other in table.licenses[todo.pop()].joins:
            if other not in found:
                found.add(other)
                todo.append(other)
    return frozenset(found)


@dataclass(frozen=True)
class _Case:
    """One model, with all that is known of the others."""

    models: Mapping[str, Licensed]
    bound: Mapping[str, frozenset[Held]]
    id: str
    table: Table

    @property
    def held(self) -> list[Held]:
        """The rules that bind it, in order; of a rule that came on two ways, the one with changes."""
        best: dict[tuple[Rule, str], Held] = {}
        for held in sorted(self.bound[self.id], key=lambda h: (h.rule, h.changed)):
            best[held.rule, held.origin] = held
        names = {id_: i for i, id_ in enumerate(self.models)}
        atoms = {name: i for i, name in enumerate(self.table.atoms)}
        return sorted(
            best.values(),
            key=lambda h: (atoms[h.rule.atom], str(h.rule.value), h.rule.license, names[h.origin]),
        )

    def judge(self, parents: Collection[str]) -> Effective:
        """All that follows."""
        held = self.held
        conflicts = [self._told(f, parents) for f in _conflicts(self, held)]
        findings = (*conflicts, *_drift(self, held), *_unknown(self, held))
        suggested, why = _suggest(self, held, findings)
        model = self.models[self.id]
        return Effective(
            self.id, model.declared, tuple(held), tuple(_obligations(self, held)), findings, suggested, why
        )  # fmt: skip

    def _told(self, finding: Finding, parents: Collection[str]) -> Finding:
        """A conflict, with whether a parent has it already that is not in a cycle with this model."""
        for parent in parents:
            above = {held.origin for held in self.bound[parent]}
            if self.id in above or self.id in finding.ancestors:
                continue
            other = _Case(self.models, self.bound, parent, self.table)
            seen = {(f.about, f.rules, f.ancestors) for f in _conflicts(other, other.held)}
            if (finding.about, finding.rules, finding.ancestors) in seen:
                return Finding(**{**vars(finding), "inherited": True})
        return finding

    def cite(self, held: Iterable[Held]) -> str:
        """Rules with their sources and the models they come from."""
        by_text: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
        for each in held:
            rules, names = by_text.setdefault(each.rule.text, ({}, {}))
            rules[f"{each.rule.id} {each.rule.at}"] = None
            names[self.models[each.origin].name] = None
        return "; ".join(
            f"{', '.join(rules)} of {text}, from {', '.join(names)}"
            for text, (rules, names) in by_text.items()
        )

    def finding(self, kind: Kind, about: str, held: Sequence[Held], detail: str) -> Finding:
        """A finding about rules."""
        ancestors = tuple(dict.fromkeys(h.origin for h in held))
        rules = tuple(dict.fromkeys(h.rule.id for h in held))
        inherited = kind == "license_unknown" and self.id not in ancestors
        return Finding(kind, self.id, about, ancestors, rules, detail, inherited)

    def conflict(self, about: str, held: Sequence[Held]) -> Finding:
        """A conflict of the table about rules."""
        says, source = self.table.conflicts[about]
        detail = f"{says} ({about}, {source}) — {self.cite(held)}"
        return self.finding("license_conflict", about, held, detail)


def _conflicts(case: _Case, held: Sequence[Held]) -> Iterator[Finding]:
    """What cannot be satisfied together."""
    table = case.table
    by_license: dict[str, list[Held]] = defaultdict(list)
    for each in held:
        by_license[each.rule.license].append(each)
    copyleft = [h for h in held if h.rule.atom == _SA]
    for left in dict.fromkeys(h.rule.license for h in copyleft):
        mine = [h for h in copyleft if h.rule.license == left]
        rules = table.licenses[left].rules
        for others in by_license.values():
            more = [
                h for h in others
                if table.atoms[h.rule.atom].restricts and h.rule.atom not in _APART
                and not covered(h.rule, rules, table)
            ]  # fmt: skip
            if more:
                yield case.conflict("copyleft-restricted", [*mine, *more])
    if copyleft and not _common_targets(copyleft, table):
        yield case.conflict("two-copyleft", copyleft)
    private = [h for h in held if h.rule.atom == _ND and h.changed and h.origin != case.id]
    if private:
        yield case.conflict("no-derivatives", private)
    for each in (h for h in held if h.rule.atom == _FAMILY):
        for license_id, others in by_license.items():
            license_ = table.licenses.get(license_id)
            if license_ and license_.family and license_.family != each.rule.value:
                yield case.conflict("other-family", [each, others[0]])


def _shown(value: Value) -> str:
    """A value after the word it belongs to."""
    if value is None:
        return ""
    return f" {value:,}" if isinstance(value, int) else f' "{value}"'


def _common_targets(copyleft: Iterable[Held], table: Table) -> frozenset[str]:
    """The licences under which works of all these copyleft licences may be shared together."""
    each = [joinable(str(h.rule.value), table) for h in copyleft]
    return frozenset.intersection(*each)


def _drift(case: _Case, held: Iterable[Held]) -> Iterator[Finding]:
    """What the model's own licence drops, by the ancestor and licence that ask for it."""
    model, table = case.models[case.id], case.table
    own = own_rules(model, table)
    if not own or all(rule.atom == UNKNOWN for rule in own):
        return
    dropped: dict[tuple[str, str], list[Held]] = defaultdict(list)
    for each in held:
        asked = each.origin != case.id and each.rule.atom not in (UNKNOWN, WAIVED)
        if asked and not covered(each.rule, own, table):
            dropped[each.origin, each.rule.license].append(each)
    for (origin, license_), rules in dropped.items():
        detail = (
            f"says {', '.join(model.declared)}, but {case.models[origin].name} is under {license_} "
            f"and asks for more: {case.cite(rules)}"
        )
        yield case.finding("license_drift", license_, rules, detail)


def _unknown(case: _Case, held: Iterable[Held]) -> Iterator[Finding]:
    """Those who say nothing, or nothing the table knows."""
    silent = [h for h in held if h.rule.atom == UNKNOWN]
    if not silent:
        return
    said = [f"{case.models[h.origin].name} ({h.rule.license}: {h.rule.at})" for h in silent]
    said = [text.replace(f"({UNKNOWN}: ", "(") for text in said]
    detail = f"unknown for {', '.join(said)}"
    yield case.finding("license_unknown", "", silent, detail)


def _suggest(
    case: _Case, held: Sequence[Held], findings: Sequence[Finding]
) -> tuple[str | None, str]:
    """The one licence that covers all that binds a model, and why it or none."""
    if any(f.kind == "license_conflict" for f in findings):
        return None, "no licence satisfies all it was made of"
    unknown = next((f for f in findings if f.kind == "license_unknown"), None)
    if unknown:
        return None, f"licence {unknown.detail}"
    table, rules = case.table, [h.rule for h in held if h.rule.atom != WAIVED]
    copyleft = [h for h in held if h.rule.atom == _SA]
    stated = dict.fromkeys(h.rule.license for h in held)
    fits = [id_ for id_ in stated if _carries(id_, rules, table)]
    if not fits and copyleft:
        fits = [
            id_ for id_ in sorted(_common_targets(copyleft, table)) if _carries(id_, rules, table)
        ]
    weaker = [id_ for id_ in fits if not any(id_ in joinable(o, table) - {o} for o in fits)]
    n_covered = {
        id_: sum(covered(rule, table.licenses[id_].rules, table) for rule in rules)
        for id_ in weaker
    }
    best = [id_ for id_, n in n_covered.items() if n == max(n_covered.values())]
    if len(best) == 1:
        return best[0], "covers all it was made of"
    if best:
        return None, f"each of {', '.join(best)} would do"
    return None, f"no single licence covers {', '.join(stated) or 'it'}"


def _carries(license_id: str, rules: Iterable[Rule], table: Table) -> bool:
    """Whether a licence covers all that cannot be kept beside it."""
    mine = table.licenses[license_id].rules
    return all(
        table.atoms[r.atom].beside or r.atom == "gated" or covered(r, mine, table) for r in rules
    )


def _obligations(case: _Case, held: Iterable[Held]) -> Iterator[Obligation]:
    """What is to be done, joined over ancestors; of numbers the least."""
    groups: dict[tuple[str, Value], list[Held]] = defaultdict(list)
    for each in held:
        join = case.table.atoms[each.rule.atom].join
        groups[each.rule.atom, None if join == "min" else each.rule.value].append(each)
    for (name, value), group in groups.items():
        if name in (UNKNOWN, WAIVED):
            continue
        atom, asked, rules = case.table.atoms[name], value, group
        if atom.join == "min":
            asked = min(int(h.rule.value or 0) for h in group)
            rules = [h for h in group if h.rule.value == asked]
        yield Obligation(
            name, asked, f"{atom.says}{_shown(asked)} ({case.cite(rules)})",
            tuple(dict.fromkeys(h.rule.id for h in rules)), tuple(dict.fromkeys(h.origin for h in rules)),
        )  # fmt: skip

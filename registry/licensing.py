"""How licences come down the lineage: the rules that bind a model, as a fix-point over all it was made of.

A model is bound by the rules of its own licence and by those of every ancestor whose weights are in it, however
small its coefficient: at 0.01 a parent still contributed. Sets of rules under union form a lattice of finite height,
so the equations

    bound(m) = own(m) + { r of bound(p) : p is a parent of m, r crosses the edge }

have one least solution, which is found by passing on what is new until nothing is; claims may form cycles.

Laws: a further ancestor never takes a rule away; the order of models and edges says nothing; doing it twice changes
nothing.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from registry.license_table import KEPT, UNKNOWN, Rule, Table


@dataclass(frozen=True)
class Licensed:
    """A model and what is said of its licence.

    Attributes:
        id: of the model.
        name: for people.
        declared: texts of cards, one for each licence that is named; empty: nothing is said.
        ours: this program made it of its parents and of nothing else, so its own silence hides nothing.
    """

    id: str
    name: str
    declared: tuple[str, ...] = ()
    ours: bool = False


@dataclass(frozen=True, order=True)
class Descent:
    """An edge of the lineage.

    Attributes:
        child: id of the model that descends.
        parent: id of the model it descends from.
        relation: how.
    """

    child: str
    parent: str
    relation: str


@dataclass(frozen=True, order=True)
class Held:
    """A rule that binds a model.

    Attributes:
        rule: what is asked, and where that is said.
        origin: id of the model under whose licence it stands: an ancestor or the model itself.
        changed: on the way from there weights were changed.
    """

    rule: Rule
    origin: str
    changed: bool


def own_rules(model: Licensed, table: Table) -> tuple[Rule, ...]:
    """The rules of a model's declared licences; one that says `unknown` for silence and for what no table knows."""
    rules: dict[Rule, None] = {}
    for declared in model.declared:
        found = table.find(declared, model.name)
        said = found.rules if found else (_unknown(declared, "the table of licences has no such"),)
        rules |= dict.fromkeys(said)
    if not model.declared:
        rules[_unknown(UNKNOWN, "no card names a licence")] = None
    return tuple(rule for rule in rules if not (model.ours and rule.atom == UNKNOWN))


def _unknown(declared: str, why: str) -> Rule:
    """The rule of a licence that nobody can look up."""
    return Rule(declared.lower(), UNKNOWN, None, why, declared, outputs=False)


def bound(
    models: Iterable[Licensed], descents: Iterable[Descent], table: Table
) -> Mapping[str, frozenset[Held]]:
    """The rules that bind each model.

    Args:
        models: all of them; an edge to a model that is not among them is left out.
        descents: edges; they may form cycles.
        table: of licences.
    """
    known = {model.id: model for model in models}
    children: dict[str, set[Descent]] = defaultdict(set)
    for descent in descents:
        if descent.child in known and descent.parent in known:
            children[descent.parent].add(descent)
    held: dict[str, set[Held]] = {
        id_: {Held(rule, id_, changed=False) for rule in own_rules(model, table)}
        for id_, model in known.items()
    }
    new = deque((id_, frozenset(rules)) for id_, rules in held.items())
    while new:
        parent, rules = new.popleft()
        for descent in children[parent]:
            arriving = _across(rules, descent, table) - held[descent.child]
            if arriving:
                held[descent.child] |= arriving
                new.append((descent.child, frozenset(arriving)))
    return {id_: frozenset(rules) for id_, rules in held.items()}


def _across(rules: Iterable[Held], descent: Descent, table: Table) -> set[Held]:
    """What of the parent's rules binds the child; a model's own rules do not come back to it around a cycle."""
    keeps = table.group(descent.relation) == KEPT
    return {
        Held(held.rule, held.origin, held.changed or not keeps)
        for held in rules
        if held.origin != descent.child and table.crosses(held.rule, descent.relation)
    }

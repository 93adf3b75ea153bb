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
    own = {id_: own_rules(model, table) for id_, model in known.items()}
    rules = list(dict.fromkeys(rule for said in own.values() for rule in said))
    number = {rule: i for i, rule in enumerate(rules)}
    children: dict[str, set[Descent]] = defaultdict(set)
    for descent in descents:
        if descent.child in known and descent.parent in known:
            children[descent.parent].add(descent)
    relations = {descent.relation for below in children.values() for descent in below}
    crossing = {
        relation: frozenset(i for i, rule in enumerate(rules) if table.crosses(rule, relation))
        for relation in relations
    }
    changing = {relation: table.group(relation) != KEPT for relation in relations}
    # Plain tuples (number of the rule, origin, changed) until the end: there may be millions.
    held = {id_: {(number[rule], id_, False) for rule in said} for id_, said in own.items()}
    new = deque((id_, frozenset(arrived)) for id_, arrived in held.items())
    while new:
        parent, arrived = new.popleft()
        for descent in children[parent]:
            child, relation = descent.child, descent.relation
            crosses, changes = crossing[relation], changing[relation]
            arriving = {
                (rule, origin, changed or changes)
                for rule, origin, changed in arrived
                if rule in crosses and origin != child  # nothing comes back to its origin
            } - held[child]
            if arriving:
                held[child] |= arriving
                new.append((child, frozenset(arriving)))
    return {
        id_: frozenset(Held(rules[rule], origin, changed) for rule, origin, changed in found)
        for id_, found in held.items()
    }

"""The card of a model on the Hub: the one it has, with what its lineage says merged in.

What the owner wrote stays: the body, and every key that lineage says nothing about. Ours are `base_model` and its relation, the
licence where it follows, two tags, measured scores, and one section of the body between marks, which the next push replaces.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from registry.card import Card, can_hold, code, hub_ids, number, render_card, table, words
from registry.database import Row
from registry.hub_parent import HubParent, hub_relation
from registry.hub_scores import Benchmark, benchmark_of, model_index
from registry.license_findings import Effective
from registry.license_report import card_license
from registry.license_table import NOT_ADVICE

BEGIN, END = "<!-- homolog: begin -->", "<!-- homolog: end -->"
"""Marks around our section of a card's body."""

_SECTION = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END) + r"\n*", re.DOTALL)
_TAG = "homolog"


@dataclass(frozen=True)
class Facts:
    """What is known of a model that its card is to say.

    Attributes:
        name: of the model, without any path.
        digest: of its weights.
        parents: the base first.
        license: as its lineage makes it.
        allowed: why it is passed on although no licence obeys all; None where none contradict.
        scores: that were measured.
        benchmarks: suite → benchmark of the Hub.
        library: that loads it; None where nobody knows.
    """

    name: str
    digest: str
    parents: tuple[HubParent, ...]
    license: Effective
    allowed: str | None
    scores: Sequence[Row]
    benchmarks: Mapping[str, Benchmark]
    library: str | None


def card_text(own: Card, facts: Facts) -> tuple[str, tuple[str, ...]]:
    """The card, and what of it is not as the owner wrote it."""
    front, notes = dict(own.front_matter), []
    for key in [key for key in front if not can_hold(key)]:
        notes.append(f"card: the key {str(key)!r} cannot be kept")
        del front[key]
    for key, value in _ours(own, facts).items():
        before = front.get(key)
        if value is None:
            front.pop(key, None)
        else:
            front[key] = value
        if before is not None and before != value:
            now = "left out" if value is None else f"now {_short(value)}"
            notes.append(f"card: {key} was {_short(before)}, {now}")
    if "license" not in front:
        notes.append(f"card: states no licence: {facts.license.why}")
    elif card_license(facts.license)[0] is None:
        notes.append(
            f"card: license stays {_short(front['license'])}, as the card says; {facts.license.why}"
        )
    body = _SECTION.sub("", own.body).strip() or f"# {words(facts.name)}"
    front = _related_beside_base(front)
    return render_card(front, f"{body}\n\n{_section(facts, body)}"), tuple(notes)


def _ours(own: Card, facts: Facts) -> dict[str, Any]:
    """The keys that lineage says something about; None for those that are to go."""
    ours: dict[str, Any] = {}
    front = own.front_matter
    if facts.parents:
        named = [*(p.repository for p in facts.parents if p.repository), *_others(front, facts)]
        relation = hub_relation(facts.parents) or front.get("base_model_relation")
        ours["base_model"] = list(dict.fromkeys(named)) or None
        ours["base_model_relation"] = relation if named else None
    stated, name = card_license(facts.license)
    said = [str(value).lower() for value in _listed(front.get("license"))]
    if stated is not None and said != [stated]:
        ours |= {"license": stated, "license_name": name, "license_link": None}
    elif stated is not None and name is not None:
        ours["license_name"] = name
    if "library_name" not in front and facts.library is not None:
        ours["library_name"] = facts.library
    tags = ["merge"] if hub_relation(facts.parents) == "merge" else []
    ours["tags"] = list(dict.fromkeys([*_listed(front.get("tags")), *tags, _TAG]))
    suites = [s for s in facts.scores if benchmark_of(s, facts.benchmarks) is None]
    if suites or "model-index" in front:
        ours["model-index"] = model_index(front.get("model-index"), suites, facts.name)
    return ours


def _related_beside_base(front: dict[str, Any]) -> dict[str, Any]:
    """The same keys, the relation to the base models after these."""
    keys = [key for key in front if key != "base_model_relation"]
    if "base_model" in keys and "base_model_relation" in front:
        keys.insert(keys.index("base_model") + 1, "base_model_relation")
        return {key: front[key] for key in keys}
    return front


def _others(front: Mapping[str, Any], facts: Facts) -> list[str]:
    """The repositories that the owner's card names as bases and that are none of the parents we know."""
    known = {p.name.rpartition("/")[2].lower() for p in facts.parents}
    known |= {p.repository.rpartition("/")[2].lower() for p in facts.parents if p.repository}
    names = [str(name) for name in _listed(front.get("base_model")) if isinstance(name, str)]
    return [n for n in hub_ids(names) if "/" in n and n.rpartition("/")[2].lower() not in known]


def _listed(value: Any) -> list[Any]:
    """A list, or what stands in the place of one."""
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def _short(value: Any) -> str:
    """A value in few words."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return value if isinstance(value, str) else "another"


def _section(facts: Facts, body: str) -> str:
    """What the card says of a model's origin that its body does not say by itself, as those of our merges do."""
    digest = f"Digest of the weights: {code(facts.digest)}\n"
    parts = [BEGIN, "## Origin\n", *([] if digest in body else [digest])]
    if facts.parents:
        rows = (
            (words(p.relation), words(p.role), _shown(p), code(p.digest), number(p.coefficient), words(p.status))
            for p in facts.parents
        )  # fmt: skip
        parts.append(
            table(("relation", "role", "model", "digest", "coefficient", "known by"), rows)
        )
    private = [p.name for p in facts.parents if p.repository is None]
    if private:
        parts.append(f"Not on the Hub, as far as is known: {', '.join(map(code, private))}.\n")
    parts += _license_lines(facts, body)
    if facts.scores:
        scores = (
            (words(s["task"]), words(s["metric"]), _value(s), str(s["n"] or ""), words(s["source"]))
            for s in facts.scores
        )
        parts += ["### Measured\n", table(("suite", "metric", "value", "n", "source"), scores)]
    return "\n".join([*parts, END]) + "\n"


def _license_lines(facts: Facts, body: str) -> list[str]:
    """What is to be said of the licence."""
    license_ = facts.license
    said = words(f"{license_.suggested or 'No single licence'}: {license_.why} ({NOT_ADVICE}).")
    if said in body and facts.allowed is None:
        return []
    found = [f"{finding.kind}: {finding.detail}" for finding in license_.conflicts]
    if facts.allowed is not None:
        found.append(f"passed on nevertheless: {facts.allowed}")
    found += [obligation.text for obligation in license_.obligations]
    listed = "".join(f"- {words(line)}\n" for line in found)
    return ["### Licence\n", f"{said}\n", *([listed] if listed else [])]


def _shown(parent: HubParent) -> str:
    """A parent as readers of the card find it."""
    if parent.repository is None:
        return code(parent.name)
    return f"[{words(parent.repository)}](/{parent.repository})"


def _value(score: Row) -> str:
    """A score with its standard error."""
    error = "" if score["stderr"] is None else f" ± {score['stderr']:.4g}"
    return f"{score['value']:.6g}{error}"

"""The card of a pushed model: the owner's words stay, what lineage knows is merged in."""

from registry.card import Card, read_card
from registry.hub_card import BEGIN, END, Facts, card_text
from registry.hub_parent import HubParent
from registry.hub_scores import Benchmark
from registry.license_findings import effective
from registry.license_table import license_table
from registry.licensing import Descent, Licensed

BODY = "# Mine\n\nWhat I want to say.\n"


def parent(name, repository, relation="merge", role="model", coefficient=None):
    return HubParent(name * 12, name, repository, relation, role, coefficient, "recorded")


def licensed(child=(), *, ours=True, **parents):
    """The licence of a merge of parents; words of cards by their names."""
    models = [
        Licensed("it", "it", child, ours=ours),
        *(Licensed(n, n, w) for n, w in parents.items()),
    ]
    edges = [Descent("it", name, "merge") for name in parents]
    return effective(models, edges, license_table(), only=["it"])["it"]


def facts(
    *parents, license_=None, allowed=None, scores=(), benchmarks=None, library="transformers"
):
    return Facts(
        name="merged", digest="f" * 64, parents=parents, license=license_ or licensed(a=("mit",)), allowed=allowed,
        scores=scores, benchmarks=benchmarks or {}, library=library,
    )  # fmt: skip


def written(own, told):
    text, notes = card_text(own, told)
    card = read_card(text)
    return card.front_matter, card.body, notes


AB = (
    parent("base", "org/base", role="base"),
    parent("chat", "org/chat", coefficient=0.5),
    parent("local", None),
)


def test_a_model_without_a_card_gets_one():
    front, body, notes = written(Card({}, ""), facts(*AB))
    assert front == {
        "base_model": ["org/base", "org/chat"], "base_model_relation": "merge", "license": "mit",
        "library_name": "transformers", "tags": ["merge", "homolog"],
    }  # fmt: skip
    assert body.strip().startswith("# merged")
    assert "[org/chat](/org/chat)" in body
    assert "| merge | model | `local` | `locallocallo` |" in body
    assert "Not on the Hub, as far as is known: `local`." in body
    assert not notes


def test_the_owner_s_keys_and_words_stay_and_what_changes_is_said():
    own = Card(
        {
            "datasets": ["a/b"], "pipeline_tag": "text-generation", "tags": ["mine", "homolog"], "library_name": "mlx",
            "language": ["en", "no"], "base_model": ["base", "org/else"], "license": "Apache-2.0", "license_link": "x",
            "when": "2024-01-01", "extra": {"deep": [1, True, None]},
        },
        BODY,
    )  # fmt: skip
    front, body, notes = written(own, facts(*AB))
    for key in ("datasets", "pipeline_tag", "language", "when", "library_name", "extra"):
        assert front[key] == own.front_matter[key]
    assert list(front)[:4] == ["datasets", "pipeline_tag", "tags", "library_name"]
    assert front["tags"] == ["mine", "homolog", "merge"]
    assert front["base_model"] == ["org/base", "org/chat", "org/else"]
    assert (front["license"], "license_link" in front) == ("mit", False)
    assert body.strip().startswith(BODY.strip())
    assert "card: license was Apache-2.0, now mit" in notes
    assert "card: base_model was base, org/else, now org/base, org/chat, org/else" in notes
    assert "card: license_link was x, left out" in notes


def test_a_card_that_was_pushed_before_changes_only_where_the_facts_did():
    once, _ = card_text(Card({}, BODY), facts(*AB))
    twice, notes = card_text(read_card(once), facts(*AB))
    assert twice == once
    assert not notes
    other, _ = card_text(read_card(once), facts(AB[0]))
    assert other.count(BEGIN) == other.count(END) == 1
    assert "local" not in other


def test_a_licence_that_nobody_knows_is_absent_and_said():
    unknown = licensed(a=())
    front, body, notes = written(Card({}, ""), facts(*AB, license_=unknown))
    assert "license" not in front
    assert notes == ("card: states no licence: licence unknown for a (no card names a licence)",)
    assert "No single licence: licence unknown for a" in body
    front, _, notes = written(Card({"license": "mit"}, ""), facts(*AB, license_=unknown))
    assert front["license"] == "mit"
    assert any("license stays mit, as the card says" in note for note in notes)


def test_a_licence_without_an_identifier_has_its_name():
    front, _, _ = written(Card({}, ""), facts(license_=licensed(a=("qwen-research",))))
    assert front["license"] == "other"
    assert front["license_name"] == "qwen-research"


def test_a_conflict_that_was_allowed_is_told_with_its_reason():
    both = licensed(a=("gpl-3.0",), b=("llama3.1",))
    assert both.conflicts
    front, body, _ = written(
        Card({"license": "mit"}, BODY), facts(*AB, license_=both, allowed="a private <test>")
    )
    assert front["license"] == "other"
    assert "passed on nevertheless: a private &lt;test>" in body
    assert "license_conflict" in body


def test_scores_of_suites_stand_in_the_card_and_those_of_benchmarks_only_in_its_body():
    def score(task):
        return {"task": task, "metric": "exact_match", "value": 0.25, "stderr": 0.1, "n": 25, "harness": "homolog",
                "harness_version": "1", "shots": 0, "source": f"{task}.jsonl#1", "scored_at": None}  # fmt: skip

    told = facts(scores=[score("sums"), score("hard")], benchmarks={"hard": Benchmark("me/hard")})
    front, body, _ = written(Card({}, ""), told)
    (result,) = front["model-index"][0]["results"]
    assert result["dataset"]["name"] == "sums"
    assert "| sums | exact_match | 0.25 ± 0.1 | 25 | sums.jsonl#1 |" in body
    assert "| hard | exact_match |" in body


def test_keys_that_the_library_cannot_hold_are_said_and_left_out():
    front, _, notes = written(Card({"to_dict": 1, "eval_results": [2], "fine": 3}, ""), facts())
    assert front["fine"] == 3
    assert {
        "card: the key 'to_dict' cannot be kept",
        "card: the key 'eval_results' cannot be kept",
    } <= set(notes)


def test_an_adapter_is_loaded_by_peft_and_a_fine_tune_is_one():
    tuned = parent("base", "org/base", "finetune", "parent")
    front, _, _ = written(Card({}, ""), facts(tuned, library="peft"))
    assert (front["library_name"], front["base_model_relation"], front["tags"]) == (
        "peft",
        "finetune",
        ["homolog"],
    )
    cast = parent("base", "org/base", "cast", "parent")
    front, _, _ = written(Card({}, ""), facts(cast, library=None))
    assert "base_model_relation" not in front
    assert front["base_model"] == ["org/base"]

"""A card is read as the Hub reads it, and written so that the Hub takes it."""

import re

import huggingface_hub
import pytest
from huggingface_hub.utils import validate_repo_id
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.card import (
    MergeCard,
    ParentLine,
    can_hold,
    parse_yaml_documents,
    read_card,
    read_text,
    render_card,
    without_paths,
    write_card,
)
from registry.errors import BadDocument, Unreadable

MERGE = MergeCard(
    title="chat-math",
    parents=(
        ParentLine("org/base", "ab" * 32, "base", None),
        ParentLine("hf://org/chat@v1", "cd" * 32, "model", 0.6),
        ParentLine("math", "ef" * 32, "model", 0.4),
    ),
    method="task_arithmetic",
    recipe_yaml="merge_method: task_arithmetic\nmodels:\n- {model: math, parameters: {weight: 0.4}}\n",
    license="apache-2.0",
    measured=(("mean of the absolute delta", "0.0021"), ("gsm8k exact_match", "0.41 ± 0.01")),
    version="0.1.0",
    model_digest="12" * 32,
    recipe_digest="34" * 32,
)


@pytest.mark.parametrize(
    "text",
    [
        "---\nlicense: mit\ntags: [a, b]\n---\n# T\n",
        "\n\n  ---\nlicense: mit\n---\n",
        "---\r\nlicense: mit\r\nbase_model: a/b\r\n---\r\n# T\r\n",
        "---\nlicense: mit\n---",
        "---\nlicense: mit\n---  \n---\nmore\n---\n",
        "---\n# only a comment\n---\nbody",
        "# no front matter\n\n---\nlicense: mit\n---\n",
        "<p align=center>logo</p>\n\n---\nlicense: mit\n---\n",
        "--- \nlicense: mit\n---\n",
        "----\nlicense: mit\n---\n",
        "",
    ],
)
def test_front_matter_and_body_are_those_the_hub_sees(text):
    ours, theirs = read_card(text), huggingface_hub.ModelCard(text)
    assert ours.front_matter == theirs.data.to_dict()
    assert ours.body == theirs.text


def test_a_byte_order_mark_hides_nothing(tmp_path):
    file = tmp_path / "README.md"
    file.write_bytes(b"\xef\xbb\xbf---\nlicense: mit\n---\n")
    assert read_card(read_text(file)).front_matter == {"license": "mit"}
    assert read_card("\ufeff---\nlicense: mit\n---\n").front_matter == {"license": "mit"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("---\nlicense: mit\n# T\n", "never closed"),
        ("---\n- a\n- b\n---\n", "must be a mapping"),
        ("---\njust text\n---\n", "must be a mapping"),
        ("---\na: 1\na: 2\n---\n", "twice"),
        ("---\na: &x [1]\nb: *x\n---\n", "aliases"),
        ("---\na: !!python/object:os.system {}\n---\n", "tag"),
        ("---\na: [\n---\n", "YAML"),
    ],
)
def test_malformed_front_matter_is_refused_by_name(text, why):
    with pytest.raises(BadDocument, match=why):
        read_card(text)


def test_text_that_is_no_utf8_keeps_its_readable_parts(tmp_path):
    file = tmp_path / "README.md"
    file.write_bytes(b"---\nbase_model: a/b\n---\ncaf\xe9\n")
    card = read_card(read_text(file))
    assert card.front_matter == {"base_model": "a/b"}
    assert card.body == "caf\ufffd\n"


def test_a_text_that_is_too_large_or_missing_is_refused(tmp_path):
    file = tmp_path / "README.md"
    file.write_bytes(b"12345")
    assert read_text(file, max_bytes=5) == "12345"
    with pytest.raises(BadDocument, match="larger than 4 bytes"):
        read_text(file, max_bytes=4)
    with pytest.raises(Unreadable):
        read_text(tmp_path / "none.md")
    with pytest.raises(Unreadable):
        read_text(tmp_path)


def test_several_yaml_documents_are_read_in_order():
    text = "---\na: 1\n--- # second\nb: '---'\n---\n---\n- 3\n"
    assert parse_yaml_documents(text) == [{"a": 1}, {"b": "---"}, [3]]


def test_the_hub_accepts_the_card_of_a_merge():
    card = huggingface_hub.ModelCard(write_card(MERGE))
    assert card.data.base_model == ["org/base", "org/chat", "math"]
    assert card.data.get("base_model_relation") == "merge"
    assert card.data.license == "apache-2.0"
    assert card.data.library_name == "transformers"
    assert card.data.model_name == "chat-math"
    assert card.data.tags == ["merge", "homolog", "task_arithmetic"]
    for name in card.data.base_model:
        validate_repo_id(name)


def test_the_card_of_a_merge_reads_back_through_our_own_door():
    card = read_card(write_card(MERGE))
    assert card.front_matter == huggingface_hub.ModelCard(write_card(MERGE)).data.to_dict()
    rows = re.findall(
        r"^\| (base|model) \| `(.*?)` \| `(\w+)` \| (.*?) ?\|$", card.body, re.MULTILINE
    )
    assert rows == [
        ("base", "org/base", "ab" * 8, ""),
        ("model", "hf://org/chat@v1", "cd" * 8, "0.6"),
        ("model", "math", "ef" * 8, "0.4"),
    ]
    recipe = re.search(r"```yaml\n(.*?)```", card.body, re.DOTALL)
    assert recipe is not None
    assert parse_yaml_documents(recipe[1]) == parse_yaml_documents(MERGE.recipe_yaml)
    for text in (
        "2 models",
        "0.41 ± 0.01",
        MERGE.model_digest,
        MERGE.recipe_digest,
        "reg reproduce",
    ):
        assert text in card.body


def test_what_nobody_knows_is_left_out_of_the_card():
    parents = (ParentLine("two words", "ab" * 32, "model", None),)
    bare = MergeCard("m", parents, "linear", "a: 1\n", None, (), "0.1.0", "12" * 32, "34" * 32)
    card = read_card(write_card(bare))
    assert set(card.front_matter) == {"library_name", "model_name", "tags"}
    assert "`two words`" in card.body
    assert "## Measured" not in card.body
    assert "of 1 model by" in card.body


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/me/models/chat", "chat"),
        ("/home/My Name/chat model", "chat model"),
        ("~/models/chat/", "chat"),
        ("file:///srv/chat", "chat"),
        ("C:\\Users\\me\\chat", "chat"),
        ("\\\\host\\share\\deep\\chat", "chat"),
        ("/a/base+/b/lora", "base+lora"),
        ("merged from /mnt/a/b and (/mnt/c)", "merged from b and (c)"),
        ("pretrained=/mnt/a/b,dtype=bf16", "pretrained=b,dtype=bf16"),
        ("base:/mnt/a", "base:a"),
        ("hf://org/name@main", "hf://org/name@main"),
        ("https://huggingface.co/org/name", "https://huggingface.co/org/name"),
        ("org/name", "org/name"),
        ("1/2 and/or 3 / 4", "1/2 and/or 3 / 4"),
        ("one\n/two/three x\nfour", "one\nthree x\nfour"),
    ],
)
def test_local_paths_are_cut_to_their_last_part(text, shown):
    assert without_paths(text) == shown


def test_names_with_markdown_html_or_escapes_cannot_leave_their_cell():
    evil = "a`|b\n| c <img src=x> \x1b[31m"
    parents = (ParentLine(evil, "ab" * 32, "model", 1.0),)
    recipe = "description: '````` and ```'\n"
    card = MergeCard(evil, parents, "linear", recipe, "mit", ((evil, evil),), "0.1.0", "12", "34")
    text = write_card(card)
    assert "\x1b" not in text
    assert "<img" not in re.sub("`.*?`", "", read_card(text).body)
    table = text.split("## Parents\n\n")[1].split("\n\n")[0].splitlines()
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in table] == [5, 5, 5]
    assert huggingface_hub.ModelCard(text).data.license == "mit"
    assert "\n``````yaml\n" in text


SEGMENT = st.text("abcXYZ019_-. é", min_size=1).filter(lambda s: s.strip(" .") == s)
SECRET = st.lists(SEGMENT, min_size=1, max_size=3).map(lambda parts: f"/s3cret/{'/'.join(parts)}")


@settings(max_examples=60, deadline=None)
@given(SECRET, st.sampled_from(["{}", "~{}", "file://{}", "x {}", "({})", "k={}", "'{}'", "a: {}"]))
def test_no_card_ever_holds_the_root_of_a_path(path, form):
    text = form.format(path)
    recipe = f'models:\n- model: "{path}"\n  note: "see {path}"\n"{path}": 1\n# {path}\n'
    parents = (ParentLine(text, "ab" * 32, "model", 0.5),)
    card = MergeCard(text, parents, text, recipe, text, ((text, text),), text, "12", "34")
    assert "s3cret" not in write_card(card)
    assert without_paths(without_paths(text)) == without_paths(text)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40), st.text(max_size=40), st.none() | st.floats(allow_nan=False))
def test_every_card_we_write_can_be_read(title, name, coefficient):
    parents = (
        ParentLine(name, "ab" * 32, "model", coefficient),
        ParentLine("o/p", "cd", "base", None),
    )
    card = MergeCard(title, parents, "linear", "a: 1", title, ((name, title),), "1", "12", "34")
    text = write_card(card)
    front_matter = read_card(text).front_matter
    assert front_matter["base_model_relation"] == "merge"
    assert "o/p" in front_matter["base_model"]
    assert huggingface_hub.ModelCard(text).data.to_dict() == front_matter


_VALUES = st.recursive(
    st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["C"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abc-", min_size=1), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    st.dictionaries(st.from_regex("[a-z_-]{1,12}", fullmatch=True), _VALUES, max_size=5),
    st.sampled_from(["", "# T\n", "---\nx\n"]),
)
def test_what_is_rendered_is_read_again(front, body):
    kept = {key: value for key, value in front.items() if can_hold(key)}
    card = read_card(render_card(front, body))
    assert card.front_matter == kept
    assert list(card.front_matter) == list(kept)
    assert card.body.strip() == body.strip()


def test_keys_that_would_stand_in_for_methods_are_not_held():
    assert not any(can_hold(key) for key in ("to_dict", "get", "eval_results", 7))
    assert can_hold("model-index")

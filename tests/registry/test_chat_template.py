"""Chat templates: found where tokenizers keep them, chosen as recipes say, written once."""

import json

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from registry.chat_template import (
    CHATML,
    MAX_BYTES,
    choose_template,
    read_chat_template,
    write_chat_template,
)
from registry.errors import BadDocument, BadRecipe, PathEscapes


@pytest.fixture
def folder(tmp_path):
    def make(name, **files):
        made = tmp_path / name
        made.mkdir()
        for file, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (made / file.replace("_j", ".j")).write_text(text, encoding="utf-8")
        return made

    return make


def test_a_template_is_found_where_it_is(folder):
    config = {"chat_template": "{{ b }}"}
    assert read_chat_template(folder("none")) is None
    assert read_chat_template(folder("config", tokenizer_config_json=config)) == "{{ b }}"
    both = folder("both", chat_template_jinja="{{ a }}", tokenizer_config_json=config)
    assert read_chat_template(both) == "{{ a }}"
    named = {
        "chat_template": [{"name": "tool", "template": "t"}, {"name": "default", "template": "d"}]
    }
    assert read_chat_template(folder("named", tokenizer_config_json=named)) == "d"
    assert read_chat_template(folder("old", chat_template_json={"chat_template": "o"})) == "o"


def test_a_written_template_is_the_only_one(folder):
    made = folder(
        "m",
        tokenizer_config_json={"chat_template": "old", "kept": 1},
        chat_template_json={"chat_template": "x"},
    )
    write_chat_template(made, "{{ new }}")
    assert read_chat_template(made) == "{{ new }}"
    assert json.loads((made / "tokenizer_config.json").read_text()) == {"kept": 1}
    assert not (made / "chat_template.json").exists()


def test_auto_takes_the_template_most_models_have(folder):
    models = {
        n: folder(n, chat_template_jinja=t) for n, t in (("a", "{1}"), ("b", "{2}"), ("c", "{2}\n"))
    }
    assert choose_template("auto", models) == "{2}"
    assert choose_template("auto", {"x": models["a"], "b": models["b"], "y": models["a"]}) == "{1}"
    assert choose_template("auto", {"bare": folder("bare")}) is None
    assert choose_template("b", models) == "{2}"


def test_chatml_renders_a_conversation():
    talk = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": " Hi "}]
    text = choose_template("chatml", {})
    assert text == CHATML
    rendered, _ = render_jinja_template([talk], chat_template=text, add_generation_prompt=True)
    assert rendered == [
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n Hi <|im_end|>\n<|im_start|>assistant\n"
    ]


def test_a_template_is_itself_and_an_unknown_name_is_refused(folder):
    assert choose_template("{% if x %}{% endif %}", {}) == "{% if x %}{% endif %}"
    with pytest.raises(BadRecipe, match="must be auto, chatml"):
        choose_template("chatlm", {})
    with pytest.raises(BadRecipe, match="a model that has none"):
        choose_template("mute", {"mute": folder("mute")})


def test_hostile_templates_have_named_errors(folder, tmp_path):
    (folder("bytes") / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(BadDocument, match="UTF-8"):
        read_chat_template(tmp_path / "bytes")
    with (folder("large") / "chat_template.jinja").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(BadDocument, match="at most"):
        read_chat_template(tmp_path / "large")
    (tmp_path / "secret").write_text("{{ x }}")
    (folder("link") / "chat_template.jinja").symlink_to(tmp_path / "secret")
    with pytest.raises(PathEscapes):
        read_chat_template(tmp_path / "link")
    with pytest.raises(BadDocument):
        read_chat_template(folder("broken", tokenizer_config_json="{"))

"""Prompts that tell something about a class, by hand and through the mapper."""

import pytest

from glipv2_d2.errors import ConfigError, PromptError
from glipv2_d2.language import Prompt
from glipv2_d2.language.class_knowledge import knowledge_prompts, read_definitions

AQUARIUM = {
    "penguin": {"prefix": "", "name": "penguin", "suffix": " , which is black and white"},
    "fish": {"prefix": " ", "name": "fish", "suffix": ""},
}
HOLES = {"pothole": {"prefix": "there are some ", "name": "holes", "suffix": " on the road"}}


def phrases(prompt):
    return [prompt.caption[start:end] for ((start, end),) in prompt.spans]


def test_caption_knowledge():
    (prompt,) = knowledge_prompts(["pothole"], HOLES)
    assert prompt.caption == "there are some holes on the road"
    assert phrases(prompt) == ["holes"]
    assert prompt.names == ("pothole",)
    (prompt,) = knowledge_prompts(["fish", "penguin", "star_fish"], AQUARIUM)
    assert prompt.caption == " fish. penguin , which is black and white. star fish"
    assert phrases(prompt) == ["fish", "penguin", "star fish"]
    assert prompt.class_ids == (0, 1, 2)
    assert prompt.kind == "detection"


def test_without_knowledge_it_is_the_plain_prompt():
    assert knowledge_prompts(["a b", "c"], {}) == [Prompt.from_classes(["a b", "c"])]
    assert knowledge_prompts(["a b", "c", "d"], {}, 2) == Prompt.split(["a b", "c", "d"], 2)


def test_each_class_on_its_own():
    prompts = knowledge_prompts(["fish", "shark", "penguin"], AQUARIUM, size=1)
    assert [prompt.class_ids for prompt in prompts] == [(0,), (1,), (2,)]
    assert prompts[2].caption == "penguin , which is black and white"


def test_bad_knowledge_is_named():
    with pytest.raises(PromptError, match=r"classes \['pothole'\].*not among"):
        knowledge_prompts(["hole"], HOLES, 1)
    with pytest.raises(PromptError, match="no entries"):
        knowledge_prompts([], {})
    with pytest.raises(PromptError, match="size=0"):
        knowledge_prompts(["hole"], {}, 0)
    with pytest.raises(PromptError, match="inside a word"):
        knowledge_prompts(["cat"], {"cat": {"prefix": "bob", "name": "cat"}})


KNOWLEDGE = """
cat:
  clean_name: cat
  def_wiki: A domesticated animal.
  gpt3: [' It purrs.', ' Second.', ' 3.', ' 4.']
red_kite: {clean_name: red kite, def_wiki: null, gpt3: [' A bird.']}
'': {clean_name: '', def_wiki: Nothing., gpt3: [' Nothing.']}
"""


def test_what_is_told_about_classes(tmp_path):
    path = tmp_path / "knowledge.yaml"
    path.write_text(KNOWLEDGE)
    assert read_definitions(path) == {
        "cat": "cat: A domesticated animal. It purrs. Second. 3."
    }  # the kite lacks Wiktionary's


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file.*official file is"),
        ("a: [", "no YAML"),
        ("- cat", "no table of classes"),
        ("cat: dog", "class 'cat' has str instead"),
        ("cat: {clean_name: cat}", "defines no class by def_wiki and gpt3"),
    ],
)
def test_bad_definitions_are_named(content, message, tmp_path):
    path = tmp_path / "file.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message) as error:
        read_definitions(path)
    assert str(path) in str(error.value)

import pytest

from glipv2_d2.errors import ConfigError
from glipv2_d2.language.definitions import read_definitions

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

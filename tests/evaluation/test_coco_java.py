"""With programs that stand for the package and for java."""

import sys

import pytest

from glipv2_d2.errors import UserError
from glipv2_d2.evaluation import coco_java

_TOKENIZER = 'STANFORD_CORENLP_3_4_1_JAR = "corenlp.jar"\nPUNCTUATIONS = ["."]\n'
_METEOR = """
class Meteor:
    def compute_score(self, truth, results):
        assert truth == {0: ["a cat", "the cat"], 1: ["a dog"]}
        assert results == {0: ["a cat"], 1: [""]}
        return 0.25, [0.5, 0.0]
"""
_SPICE = "class Spice:\n    def __init__(self):\n        raise OSError('no models')\n"


@pytest.fixture
def java(tmp_path, monkeypatch):
    """java(script): the package, and a program `java` of these lines."""
    for name, code in (
        ("tokenizer/ptbtokenizer", _TOKENIZER),
        ("meteor/meteor", _METEOR),
        ("spice/spice", _SPICE),
    ):
        path = tmp_path / "pycocoevalcap" / f"{name}.py"
        path.parent.mkdir(parents=True)
        path.write_text(code)
    (tmp_path / "bin").mkdir()

    def install(script):
        program = tmp_path / "bin/java"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    yield install
    for module in [name for name in sys.modules if name.startswith("pycocoevalcap")]:
        del sys.modules[module]


def test_it_is_used_where_both_are_there(java, monkeypatch):
    java("cat")
    assert coco_java.has_java()
    monkeypatch.setenv("PATH", "")
    assert not coco_java.has_java()


def test_each_caption_has_its_line(java):
    java("sed 's/[.]/ ./g'")
    captions = ["a cat.", "", "two\nlines", "naïve 日本語 .", ""]
    words = [["a", "cat"], [], ["two", "lines"], ["naïve", "日本語"], []]
    assert coco_java.tokenize_captions(captions) == words


def test_a_tokenizer_that_fails_is_named(java):
    java("echo 'no main class' >&2; exit 1")
    with pytest.raises(UserError, match="tokenizer.*failed: no main class.*java=False"):
        coco_java.tokenize_captions(["a cat"])


def test_a_metric_that_fails_is_left_out(java, caplog):
    references = [[["a", "cat"], ["the", "cat"]], [["a", "dog"]]]
    assert coco_java.java_metrics([["a", "cat"], []], references) == {"METEOR": 0.25}
    assert "SPICE is left out" in caplog.text
    assert "no models" in caplog.text

"""The words that a class is asked by."""

import pytest

from glipv2_d2.errors import PromptError
from glipv2_d2.language.words import words_of_classes


def test_words_of_classes_carry_the_id_of_their_class():
    names = [["cat", "kitten"], "dog", ("bird",)]
    assert words_of_classes(names) == (["cat", "kitten", "dog", "bird"], [0, 0, 1, 2])
    assert words_of_classes(names, [7, 7, 9])[1] == [7, 7, 7, 9]
    with pytest.raises(PromptError, match="3 class names but 1 class ids"):
        words_of_classes(names, [1])


@pytest.mark.parametrize("names", [[["cat", []]], [[]], ["cat", [None]]])
def test_a_class_of_something_else(names):
    with pytest.raises(PromptError, match="a class is its name, or a list of words"):
        words_of_classes(names)

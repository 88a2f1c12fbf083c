import pytest

from glipv2_d2.errors import DataError
from glipv2_d2.evaluation.flickr30k_entities import read_entity_boxes, read_sentences

LEFT, RIGHT = (1, 1, 41, 41), (101, 1, 141, 41)


def test_files_of_flickr30k_entities(entities):
    assert read_entity_boxes(str(entities), "77") == {"1": [LEFT, RIGHT], "2": [LEFT]}
    sentences = read_sentences(str(entities), "77")
    assert [len(phrases) for phrases in sentences] == [3, 2, 1]
    assert sentences[0][0] == ("Two young guys", "1", ("people", "animals"))
    assert [phrase.entity for phrase in sentences[0]] == ["1", "3", "2"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("Annotations/77.xml", "<annotation>", "no valid xml"),
        (
            "Annotations/77.xml",
            "<annotation><object><name>1</name><bndbox/></object></annotation>",
            "bndbox has the corners",
        ),
        ("Sentences/77.txt", "[/EN#1/people Two guys see", "no closing"),
        ("Sentences/77.txt", "[1/people Two guys] see", "does not begin a phrase"),
    ],
)
def test_damaged_files_are_named(entities, name, text, message):
    (entities / name).write_text(text)
    with pytest.raises(DataError, match=rf"77\.(xml|txt).*{message}"):
        read_entity_boxes(str(entities), "77")
        read_sentences(str(entities), "77")

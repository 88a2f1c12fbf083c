"""Label propagation by hand: which words of the batch are positive for which boxes."""

import hashlib

import torch

from glipv2_d2.language import Prompt
from glipv2_d2.modeling.contrast_targets import _name_key, batch_targets, positions_inside
from tests.support.contrast_cases import (
    POSITIONS,
    classes,
    make_targets,
    word_labels,
)


def positives(*images, **options):
    """Words that are positive for each box, {(image, box): set}; regions without boxes have none.

    The two directions must be each other's transpose.
    """
    targets = make_targets(*images, **options)
    image = torch.arange(len(images)).repeat_interleave(POSITIONS)
    position = torch.arange(POSITIONS).repeat(len(images))
    rows, columns = batch_targets(targets, image, position)
    labels = word_labels(targets)
    assert rows.shape == (len(image), len(labels))
    assert torch.equal(columns, rows.T)
    found = {}
    for i, n, row in zip(image.tolist(), position.tolist(), rows):
        box = int(targets.matches[i, n])
        if box < 0:
            assert not row.any()
        else:
            found[i, box] = {label for label, hit in zip(labels, row) if hit}
    return found


def test_detection_to_detection():
    assert positives((classes("person", "cat"), [0]), (classes("dog", "person"), [0])) == {
        (0, 0): {"0:person", "1:person"},
        (1, 0): {"1:dog"},
    }


def test_sentence_to_detection_but_never_to_a_sentence():
    found = positives(
        (classes("person", "cat"), [0]),
        (Prompt.parse("a [person] walks a [cat]"), [0, 1]),
        (Prompt.parse("[person] alone"), [0]),
    )
    assert found == {
        (0, 0): {"0:person"},
        (1, 0): {"0:person", "1:person"},
        (1, 1): {"0:cat", "1:cat"},
        (2, 0): {"0:person", "2:person"},
    }


def test_class_ids_play_no_part():
    """One name with two ids is one, and one id with two names is two."""
    found = positives(
        (classes("person", "cat", ids=[0, 1]), [0, 1]), (classes("cat", "person", ids=[0, 5]), [1])
    )
    assert found == {
        (0, 0): {"0:person", "1:person"},
        (0, 1): {"0:cat", "1:cat"},
        (1, 0): {"0:person", "1:person"},
    }


def test_names_are_cleaned_and_their_case_does_not_matter():
    """Also where the prompt itself holds the raw name."""
    raw = Prompt("BOW here", "detection", (((0, 3),),), ("bow_(weapon)",), (0,))
    found = positives(
        (classes("bow_(ribbon)", "hot_dog"), [0, 1]), (raw, [0]), (classes("Hot  Dog"), [0])
    )
    assert found == {
        (0, 0): {"0:bow", "1:BOW"},
        (0, 1): {"0:hot", "0:dog", "2:Hot", "2:Dog"},
        (1, 0): {"0:bow", "1:BOW"},
        (2, 0): {"0:hot", "0:dog", "2:Hot", "2:Dog"},
    }


def test_only_whole_names_count():
    found = positives((classes("hot dog"), [0]), (classes("dog", "hot"), [0]))
    assert found == {(0, 0): {"0:hot", "0:dog"}, (1, 0): {"1:dog"}}


def test_two_phrases_of_one_name_in_a_prompt():
    """The annotation decides between them in their own image; for others both are right."""
    twice = classes("bow_(weapon)", "bow_(ribbon)")
    assert positives((twice, [0, 1]), (classes("bow"), [0])) == {
        (0, 0): {"0:bow", "1:bow"},
        (0, 1): {"0:bow#2", "1:bow"},
        (1, 0): {"0:bow", "0:bow#2", "1:bow"},
    }
    two_men = Prompt.parse("[man] and [man]")
    assert positives((two_men, [0, 1])) == {(0, 0): {"0:man"}, (0, 1): {"0:man#2"}}


def test_a_box_of_several_phrases_has_the_name_of_each():
    union = Prompt.from_caption("man, the referee", [[(0, 3)], [(0, 3), (5, 16)]])
    found = positives((union, [0, 1]), (classes("man", "big referee", "referee"), []))
    assert found == {
        (0, 0): {"0:man", "1:man"},
        (0, 1): {"0:man", "0:the", "0:referee", "1:man", "1:referee#2"},
    }
    # A name that was given to the phrase counts alone; its words need not be.
    split = Prompt.from_caption("hot and big dog", [[(0, 3), (12, 15)]], names=["hot dog stand"])
    assert positives((split, [0]), (classes("dog", "hot dog stand"), [])) == {
        (0, 0): {"0:hot", "0:dog", "1:hot", "1:dog#2", "1:stand"}
    }


def test_masked_words_are_left_out():
    images = (classes("hot dog", "cat"), [0, 1]), (classes("cat", "hot dog"), [])
    found = positives(*images, hidden={(0, "hot"), (1, "cat"), (0, "cat")})
    assert found == {(0, 0): {"0:dog", "1:hot", "1:dog"}, (0, 1): set()}


def test_a_phrase_finds_the_class_that_it_names():
    """Articles and punctuation are the caption's, not the name's; the plural is another name."""
    caption = Prompt.from_caption("A person, the persons", [[(0, 9)], [(10, 21)]])
    found = positives((caption, [0, 1]), (classes("person", "persons", "the person"), [0]))
    assert found == {
        (0, 0): {"0:A", "0:person", "0:,", "1:person", "1:the", "1:person#2"},
        (0, 1): {"0:the", "0:persons", "1:persons"},
        (1, 0): {"1:person"},
    }


def test_the_key_of_a_name_is_the_same_in_every_process():
    digest = hashlib.blake2b(b"person", digest_size=8).digest()
    assert _name_key("A Person,") == int.from_bytes(digest, "big") >> 1
    assert _name_key("(nothing)") is None


def test_names_without_letters_find_nobody():
    """A caption may have "(left)" for a phrase, of which cleaning leaves nothing."""
    aside = Prompt.from_caption("a man (left)", [[(6, 12)]])
    assert positives((aside, [0]), (aside, [0]), (classes("left"), [])) == {
        (0, 0): {"0:(", "0:left", "0:)"},
        (1, 0): {"1:(", "1:left", "1:)"},
    }


def test_images_without_boxes():
    found = positives((classes("cat"), []), (classes("cat"), [0]), (Prompt.parse("[cat]"), []))
    assert found == {(1, 0): {"0:cat", "1:cat"}}


def test_positions_inside_are_the_cells_that_an_image_reaches_into():
    """By pixels: levels of stride 4 and 16 of a batch of 32 x 48 pixels."""
    sizes = [(32, 48), (13, 17), (16, 1)]
    found = positions_inside(sizes, [(8, 12), (2, 3)], [4, 16])
    assert found.shape == (3, 96 + 6)
    for own, (height, width) in zip(found, sizes):
        image = torch.zeros(1, 32, 48)
        image[:, :height, :width] = 1
        levels = [torch.nn.functional.max_pool2d(image, stride).flatten() for stride in (4, 16)]
        assert torch.equal(own, torch.cat(levels) > 0)

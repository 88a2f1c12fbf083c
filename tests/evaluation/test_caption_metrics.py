"""The metrics against pycocoevalcap 1.2, whose numbers on these captions are written here."""

import numpy as np
import pytest

from glipv2_d2.evaluation.caption_metrics import bleu, cider_d, rouge_l

# Candidate -> references, split at spaces: repeated words, none, one, a single reference, others
# than ASCII.
CAPTIONS = {
    "a man riding a wave on top of a surfboard": [
        "a man riding a wave on a surfboard in the ocean",
        "a surfer rides a large wave",
        "man on a surf board riding a wave",
    ],
    "two dogs play with a frisbee in the grass": ["a dog catching a red frisbee"],
    "a a a a a": ["a cat sleeps on a couch", "the cat is on the couch"],
    "": ["a red bus on the street", "a bus"],
    "naïve café 日本語": ["a small café on a street corner", "naïve café 日本語"],
    "a plate": ["a plate of food on a table with a fork and a knife beside a glass of water"],
    "the cat the cat is on the the mat": ["the cat is on the mat", "there is a cat on the mat"],
}
CANDIDATES = [caption.split() for caption in CAPTIONS]
REFERENCES = [[text.split() for text in known] for known in CAPTIONS.values()]
BLEU = [0.4078610256724474, 0.3467600972074122, 0.2921332203724738, 0.2514869066526921]
ROUGE = [
    0.7554179566563467, 0.27664399092970515, 0.3577712609970674, 0.0, 1.0, 0.17478510028653294,
    0.8299319727891156,
]  # fmt: skip
CIDER = [
    2.701901547723101, 0.4486338181476861, 0.0, 0.0, 4.062449024478745, 0.036889324896100986,
    3.1115666174928207,
]  # fmt: skip


# The same sums in another order, in float64: as close as that allows.
def close(expected):
    return pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_bleu():
    assert bleu(CANDIDATES, REFERENCES) == close(BLEU)


def test_rouge_l():
    assert list(map(rouge_l, CANDIDATES, REFERENCES)) == close(ROUGE)


def test_cider_d():
    assert cider_d(CANDIDATES, REFERENCES) == close(CIDER)


def test_one_image():
    """CIDEr weighs n-grams by how few images have them: of one image all have none."""
    one = CANDIDATES[:1], REFERENCES[:1]
    expected = [0.7238699342839938, 0.660799819508205, 0.5824072811482987, 0.5261002866894625]
    assert bleu(*one) == close(expected)
    assert cider_d(*one).tolist() == [0]


def test_no_words_at_all():
    empty = [[], []], [[["a", "dog"]], [["a", "cat"], ["it"]]]
    assert bleu(*empty) == pytest.approx([0] * 4, abs=1e-6)
    assert cider_d(*empty).tolist() == [0, 0]


def test_the_order_of_images_does_not_matter():
    order = np.random.default_rng(0).permutation(len(CANDIDATES))
    shuffled = [CANDIDATES[i] for i in order], [REFERENCES[i] for i in order]
    assert cider_d(*shuffled) == close([CIDER[i] for i in order])
    assert bleu(*shuffled) == close(BLEU)

import pytest

from glipv2_d2.evaluation.caption_tokens import tokenize_caption


# What pycocoevalcap 1.2 makes of them (Stanford's PTBTokenizer 3.4.1, then its list of
# punctuation). Of 40,460 captions of Flickr8k all are split as there but one ("at&t").
@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A man's dog isn't on the 10-foot table.", "a man 's dog is n't on the 10-foot table"),
        ("a girl 's dogs' bowl", "a girl 's dogs bowl"),
        ("I can't see they'll; we've, he'd!", "i ca n't see they 'll we 've he 'd"),
        ("The red-and-white bus (No. 5) stops...", "the red-and-white bus -lrb- no. 5 -rrb- stops"),
        ("a sign reads “Main St.” and 'no U-turn'", "a sign reads main st. and no u-turn"),
        ("Dr. Smith vs. Mr. Jones, at 3:30 p.m. in the U.S.",
         "dr. smith vs. mr. jones at 3:30 p.m. in the u.s."),
        ("red,white and blue; one man.Two women", "red white and blue one man.two women"),
        ("1,000 people -- 1/2 of 50% for $3.50", "1,000 people 1/2 of 50 % for $ 3.50"),
        ("it's 5'10\" tall - the #1 in the 1990's", "it 's 5 10 tall the # 1 in the 1990 's"),
        ("a man/woman w/o shoes and/or b/w photo", "a man/woman w/o shoes and/or b/w photo"),
        ("cannot, gonna, 10 o'clock, rock 'n' roll", "can not gon na 10 o'clock rock 'n' roll"),
        ("what?! no way!!", "what ?! no way !!"),
        ("Café naïve – 日本語…", "café naïve 日本語"),
        ("two  spaces,\na line and\ta tab", "two spaces a line and a tab"),
        ("", ""),
        ("...", ""),
    ],
)  # fmt: skip
def test_words_are_those_of_the_java_tokenizer(caption, words):
    assert tokenize_caption(caption) == words.split()

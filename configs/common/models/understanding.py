"""The heads of VQA and captioning, for any GLIPv2 (Section 3.3, Appendix D.2)."""

from detectron2.config import LazyCall as L

from glipv2_d2.modeling import GLIPv2
from glipv2_d2.modeling.generation import Decoding
from glipv2_d2.modeling.heads import CaptionHead, VqaHead


def add_vqa_head(model, *, answers):
    """Give a GLIP's config a head that answers questions with one of `answers`."""
    model._target_ = GLIPv2
    model.vqa_head = L(VqaHead)(
        text_channels="${..neck.text_channels}",
        answers=answers,
        hidden_channels=None,
        weight=1.0,
        ground_answer=False,
    )


def add_caption_head(model, *, vocabulary_size):
    """Give a GLIP's config a head that writes captions.

    `vocabulary_size`: entries of the language backbone's tokenizer.
    """
    model._target_ = GLIPv2
    model.caption_head = L(CaptionHead)(
        text_channels="${..neck.text_channels}",
        vocabulary_size=vocabulary_size,
        weight=1.0,
        decoding=L(Decoding)(beam_size=5, max_length=20, min_length=1, length_penalty=1.0),
    )

"""From a GLIP to a GLIPv2: what its three sizes share."""

from detectron2.config import LazyCall as L

from glipv2_d2.modeling import GLIPv2
from glipv2_d2.modeling.contrast import RegionWordContrast
from glipv2_d2.modeling.heads import MaskedLanguageHead


def add_pretraining_losses(model, *, vocabulary_size):
    """Give a GLIP's config the contrastive loss and masked language modeling (Eq. 2).

    `vocabulary_size`: entries of the language backbone's tokenizer.
    """
    model._target_ = GLIPv2
    model.contrast = L(RegionWordContrast)(
        channels="${..backbone.out_channels}",
        text_channels="${..neck.text_channels}",
        weight=1.0,
    )
    model.mlm_head = L(MaskedLanguageHead)(
        text_channels="${..neck.text_channels}",
        vocabulary_size=vocabulary_size,
        mask_prob=0.15,
        weight=1.0,
    )

"""From a GLIP to a GLIPv2: what its sizes share."""

from detectron2.config import LazyCall as L

from glipv2_d2.modeling import GLIPv2
from glipv2_d2.modeling.contrast import RegionWordContrast
from glipv2_d2.modeling.heads import MaskedLanguageHead
from glipv2_d2.modeling.text import build_language_backbone


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


def use_clip_text(model):
    """Give a GLIP's config UniCL's text transformer, and its tower text layers of CLIP's kind.

    Sizes: UniCL's (configs/unicl_swin_base.yaml of microsoft/UniCL), from whose weights training
    starts (paper, Section 4, Appendices D and E), as they were trained on RGB.
    """
    model.input_format = "RGB"
    model.pixel_mean = [123.675, 116.280, 103.530]
    model.pixel_std = [58.395, 57.120, 57.375]
    model.language_backbone = L(build_language_backbone)(
        name="ClipLanguageBackbone",
        model="openai/clip-vit-base-patch32",  # for its vocabulary, which is UniCL's
        pretrained=None,  # train.init_checkpoint brings them
        width=512,
        num_heads=8,
        num_layers=12,
        max_tokens=256,
        mask_token_id=49404,
        use_checkpoint=False,
        frozen=False,
    )
    model.neck.text_channels = 512
    model.neck.text_heads = 8
    model.neck.text_ffn_channels = 2048
    model.neck.text_norm = "pre"
    # No weights to be compatible with.
    model.neck.offset_rule = "resized"

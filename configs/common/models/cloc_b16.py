"""CLOC with CLIP's ViT-B/16 of 224 pixels: both towers as in OpenAI's CLIP, from scratch."""

from detectron2.config import LazyCall as L
from timm.data.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from glipv2_d2.modeling import CLOC
from glipv2_d2.modeling.backbone import ClipImageEncoder
from glipv2_d2.modeling.prompter import BoxHead, Prompter
from glipv2_d2.modeling.text import build_language_backbone

model = L(CLOC)(
    visual=L(ClipImageEncoder)(
        name="vit_base_patch16_clip_quickgelu_224",
        image_size=224,
        embed_channels="${..embed_channels}",
        use_checkpoint=False,
        # A file of CLIP weights, or a timm name; the paper finds that worse (Appendix D).
        pretrained=False,
    ),
    language_backbone=L(build_language_backbone)(
        name="ClipLanguageBackbone",
        model="openai/clip-vit-base-patch32",  # for its vocabulary, which all CLIPs have
        pretrained=False,
        width=512,
        num_heads=8,
        num_layers=12,
        max_tokens=77,
        layer_norm_eps=1e-5,
        use_checkpoint=False,
    ),
    prompter=L(Prompter)(channels=768, embed_channels="${..embed_channels}"),
    box_head=L(BoxHead)(embed_channels="${..embed_channels}"),
    embed_channels=512,
    # CLIP's normalization is of values from 0 to 1; images come with values from 0 to 255.
    input_format="RGB",
    pixel_mean=[255 * value for value in OPENAI_CLIP_MEAN],
    pixel_std=[255 * value for value in OPENAI_CLIP_STD],
    regions_per_image=4,
    conflict_threshold=0.9,
)

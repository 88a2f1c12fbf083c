"""GLIPv2-B: UniCL's Swin-B and text transformer; its tower's text layers are CLIP's kind, too.

Sizes: UniCL's (configs/unicl_swin_base.yaml of microsoft/UniCL), whose weights training starts from
(paper, Section 4, Appendices D and E): `train.init_checkpoint=` a released UniCL Swin-B.
"""

from detectron2.config import LazyCall as L

from glipv2_d2.modeling.text import build_language_backbone

from .glip_swin_b import model
from .glipv2 import add_pretraining_losses

# UniCL's image tower has windows of 7 and was trained on RGB.
model.backbone.bottom_up.window_size = 7
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
    frozen=False,
)
model.neck.text_channels = 512
model.neck.text_heads = 8
model.neck.text_ffn_channels = 2048
model.neck.text_norm = "pre"
# No weights to be compatible with.
model.neck.offset_rule = "resized"

add_pretraining_losses(model, vocabulary_size=49408)

"""GLIP-T's tower and BERT on CLIP's ResNet-50 ("How Much Can CLIP Benefit Vision-and-Language
Tasks?", Shen et al. 2022)."""

from detectron2.config import LazyCall as L
from timm.data.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from glipv2_d2.modeling.backbone import ClipResNetBackbone

from .glip_swin_t import model

model.backbone.bottom_up = L(ClipResNetBackbone)(
    name="resnet50_clip",
    out_features=("res3", "res4", "res5"),
    frozen_stages=-1,
    use_checkpoint=False,
    # "resnet50_clip.openai" through timm, or a file of CLIP weights.
    pretrained=None,
)
# CLIP's normalization is of values from 0 to 1; images come with values from 0 to 255.
model.input_format = "RGB"
model.pixel_mean = [255 * value for value in OPENAI_CLIP_MEAN]
model.pixel_std = [255 * value for value in OPENAI_CLIP_STD]

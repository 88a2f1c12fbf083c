"""CLIP-ViL with CLIP's ViT-B/32, which has told the positions of its patches itself.

ViT-B/16: `model.backbone.name=vit_base_patch16_clip_quickgelu_224`, whose map is finer:
`model.backbone.out_features=[res4] model.anchor_generator.strides=[16]`.
"""

from detectron2.config import LazyCall as L

from glipv2_d2.modeling.backbone import ClipViTBackbone

from .clip_vil import model

model.backbone = L(ClipViTBackbone)(
    name="vit_base_patch32_clip_quickgelu_224",
    out_features=("res5",),
    frozen_blocks=-1,
    use_checkpoint=False,
    # "vit_base_patch32_clip_quickgelu_224.openai" through timm, or a file of CLIP weights.
    pretrained=None,
)
model.neck.channels = 768
model.neck.grid_size = None

"""GLIP-T's tower and BERT on CLIP's ViT-B/16, as OpenAI trained it."""

from detectron2.config import LazyCall as L

from glipv2_d2.modeling.backbone import ClipViTBackbone

from .glip_clip_resnet50 import model

model.backbone.bottom_up = L(ClipViTBackbone)(
    # Without "quickgelu" for the weights of OpenCLIP's LAION and DataComp models.
    name="vit_base_patch16_clip_quickgelu_224",
    out_features=("res3", "res4", "res5"),
    frozen_blocks=-1,
    use_checkpoint=True,  # attention is global: 4200 positions at 800 x 1333 pixels
    # "vit_base_patch16_clip_quickgelu_224.openai" through timm, or a file of CLIP weights.
    pretrained=None,
)

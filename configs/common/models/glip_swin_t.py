"""GLIP-T: Swin-T, BERT-base, six blocks of deep fusion; values of the official GLIP-T."""

from detectron2.config import LazyCall as L
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator

from glipv2_d2.modeling import GLIP, SwinBackbone, build_fpn
from glipv2_d2.modeling.boxes import InclusiveBoxCoder
from glipv2_d2.modeling.fusion import VLTower
from glipv2_d2.modeling.heads import GroundingHead
from glipv2_d2.modeling.losses import GroundingLosses
from glipv2_d2.modeling.matcher import ATSSMatcher
from glipv2_d2.modeling.postprocessing import GroundingPostprocessor
from glipv2_d2.modeling.text import build_language_backbone

model = L(GLIP)(
    backbone=L(build_fpn)(
        bottom_up=L(SwinBackbone)(
            embed_dim=96,
            depths=(2, 2, 6, 2),
            num_heads=(3, 6, 12, 24),
            window_size=7,
            drop_path_rate=0.2,
            out_features=("res3", "res4", "res5"),
            frozen_stages=-1,
            use_checkpoint=False,
            # "swin_tiny_patch4_window7_224" through timm, or a file: where GLIP's training starts.
            # None is warned of; False: random weights are meant.
            pretrained=None,
        ),
        in_features=("res3", "res4", "res5"),
        out_channels=256,
        drop_block=0.3,
    ),
    language_backbone=L(build_language_backbone)(
        name="BertLanguageBackbone",  # in LANGUAGE_BACKBONE_REGISTRY
        model="bert-base-uncased",
        pretrained=True,
        num_layers_averaged=1,
        max_tokens=256,
        use_checkpoint=False,
        frozen=False,
    ),
    neck=L(VLTower)(
        num_blocks=6,
        channels="${..backbone.out_channels}",
        text_channels=768,
        fusion_heads=8,
        fusion_head_channels=256,
        text_heads=12,
        text_ffn_channels=3072,
        # Official weights were trained so; "resized" is the clean form for models trained from
        # scratch.
        offset_rule="raw_memory",
        dropout=0.1,
        use_checkpoint=True,
    ),
    head=L(GroundingHead)(
        channels="${..backbone.out_channels}",
        text_channels="${..neck.text_channels}",
        num_levels=5,
        log_scale=0.0,
        prior_prob=0.01,
    ),
    anchor_generator=L(DefaultAnchorGenerator)(
        sizes=[[64], [128], [256], [512], [1024]],
        aspect_ratios=[[1.0]],
        strides=[8, 16, 32, 64, 128],
        offset=0.5,
    ),
    losses=L(GroundingLosses)(
        matcher=L(ATSSMatcher)(top_k=9),
        box_coder=L(InclusiveBoxCoder)(weights=(10.0, 10.0, 5.0, 5.0)),
        alpha=0.25,
        gamma=2.0,
        token_weight=1.0,
        box_weight=2.0,
        centerness_weight=1.0,
    ),
    postprocessor=L(GroundingPostprocessor)(
        box_coder="${..losses.box_coder}",
        score_threshold=0.05,
        topk_candidates=1000,
        nms_threshold=0.6,
        detections_per_prompt=100,
    ),
    pixel_mean=[103.530, 116.280, 123.675],
    pixel_std=[57.375, 57.120, 58.395],
    input_format="BGR",
    vocabulary=None,
    chunk_size=None,
    prompt_batch_size=8,
)

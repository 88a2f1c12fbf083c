"""The demo's GLIP, frozen, whose boxes are the proposals of a stock Mask R-CNN head."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import (
    FastRCNNConvFCHead,
    FastRCNNOutputLayers,
    MaskRCNNConvUpsampleHead,
    StandardROIHeads,
)

from glipv2_d2.data.datasets.scenes import ALL_CLASSES
from glipv2_d2.modeling.proposal_generator import build_rcnn_on_glip

from .glip_scenes import WEIGHTS
from .glip_scenes import model as glip

glip.vocabulary = list(ALL_CLASSES)


def _pooler(resolution):
    return L(ROIPooler)(
        output_size=resolution,
        scales=[1 / 8, 1 / 16, 1 / 32],
        sampling_ratio=0,
        pooler_type="ROIAlignV2",
        canonical_box_size=64,
        canonical_level=4,
    )


_levels = ["p3", "p4", "p5"]
model = L(build_rcnn_on_glip)(
    glip=glip,
    glip_weights=str(WEIGHTS),
    roi_heads=L(StandardROIHeads)(
        num_classes=len(ALL_CLASSES),
        batch_size_per_image=32,
        positive_fraction=0.25,
        proposal_matcher=L(Matcher)(
            thresholds=[0.5], labels=[0, 1], allow_low_quality_matches=False
        ),
        box_in_features=_levels,
        box_pooler=_pooler(7),
        box_head=L(FastRCNNConvFCHead)(
            input_shape=L(ShapeSpec)(channels=128, height=7, width=7),
            conv_dims=[],
            fc_dims=[256, 256],
        ),
        box_predictor=L(FastRCNNOutputLayers)(
            input_shape=L(ShapeSpec)(channels=256),
            test_score_thresh=0.05,
            box2box_transform=L(Box2BoxTransform)(weights=(10, 10, 5, 5)),
            num_classes="${..num_classes}",
        ),
        mask_in_features=_levels,
        mask_pooler=_pooler(14),
        mask_head=L(MaskRCNNConvUpsampleHead)(
            input_shape=L(ShapeSpec)(channels=128, height=14, width=14),
            num_classes="${..num_classes}",
            conv_dims=[128, 128, 128],
        ),
    ),
)

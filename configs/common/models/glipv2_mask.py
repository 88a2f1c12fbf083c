"""The language-guided mask head, for any GLIPv2 (Section 4, Appendix D.1)."""

from detectron2.config import LazyCall as L
from detectron2.modeling.poolers import ROIPooler

from glipv2_d2.modeling.heads import LanguageMaskHead, StackedHourglass

# Of H. The paper is silent on normalization; without it a head of this depth starts at a loss of
# hundreds.
LARGE_MASK_HEAD = dict(channels=384, num_scales=2, num_layers=4, norm="GN")


def add_mask_head(
    model, *, channels=256, num_scales=1, num_layers=1, norm="", canonical_box_size=224
):
    """Give a GLIPv2's config a mask head on the fused levels P3 to P5.

    Args:
        channels, num_scales, num_layers, norm: of the hourglass; the defaults are those of T and B.
        canonical_box_size: pixels of a box that is pooled from P4, as Detectron2 counts it.
    """
    model.mask_head = L(LanguageMaskHead)(
        # 14 x 14 features and 28 x 28 masks: Mask R-CNN's sizes; the paper states none.
        pooler=L(ROIPooler)(
            output_size=14,
            scales=[1 / 8, 1 / 16, 1 / 32],
            sampling_ratio=0,
            pooler_type="ROIAlignV2",
            canonical_box_size=canonical_box_size,
            canonical_level=4,
        ),
        hourglass=L(StackedHourglass)(
            in_channels="${...backbone.out_channels}",
            channels=channels,
            num_scales=num_scales,
            num_layers=num_layers,
            norm=norm,
        ),
        text_channels="${..neck.text_channels}",
        regions_per_image=64,
        min_iou=0.5,
        weight=1.0,
    )

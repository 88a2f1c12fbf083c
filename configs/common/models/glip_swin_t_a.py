"""GLIP-T (A): no deep fusion; the tower is the vision-only dynamic head."""

from detectron2.config import LazyCall as L

from glipv2_d2.modeling.fusion import DyHead

from .glip_swin_t import model

model.neck = L(DyHead)(
    num_blocks=6,
    channels="${..backbone.out_channels}",
    offset_rule="raw_memory",
    use_checkpoint=True,
)
model.head.text_channels = 768

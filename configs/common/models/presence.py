"""The presence head, for any GLIP: is a phrase in the image at all?"""

from detectron2.config import LazyCall as L

from glipv2_d2.modeling import GLIPv2
from glipv2_d2.modeling.heads import PresenceHead


def add_presence_head(model, *, hidden_channels=128):
    """Give a GLIP's config a head that tells which phrases of a prompt are in the image.

    `model.presence_head.weighs_boxes=False` leaves the scores of boxes as they are without it.
    """
    model._target_ = GLIPv2
    model.presence_head = L(PresenceHead)(
        text_channels="${..neck.text_channels}",
        hidden_channels=hidden_channels,
        weight=1.0,
        weighs_boxes=True,
    )

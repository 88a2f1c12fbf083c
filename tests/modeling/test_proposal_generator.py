"""A stock R-CNN on a frozen GLIP."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import (
    FastRCNNConvFCHead,
    FastRCNNOutputLayers,
    StandardROIHeads,
)
from detectron2.utils.events import EventStorage

from glipv2_d2.modeling.proposal_generator import GLIPProposalGenerator, build_rcnn_on_glip
from tests.support.tiny import tiny_input, tiny_model


def roi_heads():
    return StandardROIHeads(
        num_classes=3,
        batch_size_per_image=8,
        positive_fraction=0.5,
        proposal_matcher=Matcher([0.5], [0, 1], allow_low_quality_matches=False),
        box_in_features=["p3", "p4"],
        box_pooler=ROIPooler(3, [1 / 8, 1 / 16], 0, "ROIAlignV2"),
        box_head=FastRCNNConvFCHead(
            ShapeSpec(channels=32, height=3, width=3), conv_dims=[], fc_dims=[8]
        ),
        box_predictor=FastRCNNOutputLayers(
            ShapeSpec(channels=8), box2box_transform=Box2BoxTransform((10, 10, 5, 5)), num_classes=3
        ),
    )


@pytest.fixture
def rcnn():
    glip = tiny_model(**{"head.prior_prob": 0.5})
    glip.set_vocabulary(["cat", "dog", "red kite"])
    return build_rcnn_on_glip(glip, roi_heads(), proposals_per_image=7)


def test_training_moves_the_heads_alone(rcnn):
    rcnn.train()
    assert not rcnn.proposal_generator.glip.training
    inputs = tiny_input()
    del inputs["prompt"]
    with EventStorage():
        losses = rcnn([inputs])
    sum(losses.values()).backward()
    moved = {name.split(".")[0] for name, p in rcnn.named_parameters() if p.grad is not None}
    assert moved == {"roi_heads"}


def test_proposals_are_the_best_boxes_of_glip(rcnn):
    rcnn.eval()
    glip = rcnn.proposal_generator.glip
    inputs = tiny_input()
    del inputs["prompt"]
    with torch.no_grad():
        images = rcnn.preprocess_image([inputs])
        proposals, losses = rcnn.proposal_generator(images, rcnn.backbone(images.tensor))
        expected = glip([inputs])[0]["instances"][:7]
    assert losses == {}
    torch.testing.assert_close(proposals[0].proposal_boxes.tensor, expected.pred_boxes.tensor)
    torch.testing.assert_close(proposals[0].objectness_logits.sigmoid(), expected.scores)


def test_a_glip_without_vocabulary_cannot_propose():
    with pytest.raises(ValueError, match="vocabulary"):
        GLIPProposalGenerator(tiny_model())

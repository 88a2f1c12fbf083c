"""GLIP's boxes as the proposals of a stock Detectron2 R-CNN."""

import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import ImageList, Instances
from torch import nn

from .levels import require_fitting_features
from .meta_arch import GLIP
from .meta_arch.inference import EncodedImages
from .weights import WEIGHTS_REGISTRY

__all__ = ["GLIPProposalGenerator", "build_rcnn_on_glip"]


class GLIPProposalGenerator(nn.Module):
    """Proposals for the vocabulary of a frozen GLIP.

    Args:
        glip: its neck and head run on the features that the R-CNN's backbone hands over, so that
            backbone must be the GLIP's own.
        proposals_per_image: kept, by score.
    """

    def __init__(self, glip: GLIP, proposals_per_image: int = 300):
        super().__init__()
        if not glip.vocabulary_prompts:
            raise ValueError(
                "GLIP proposes boxes for a vocabulary and has none: give it `vocabulary=[...]` "
                "or call glip.set_vocabulary([...])"
            )
        self.glip = glip.eval().requires_grad_(False)
        self.proposals_per_image = proposals_per_image

    def train(self, mode: bool = True) -> "GLIPProposalGenerator":
        return super().train(False)

    @torch.no_grad()
    def forward(
        self,
        images: ImageList,
        features: dict[str, torch.Tensor],
        gt_instances: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, torch.Tensor]]:
        """Instances with `proposal_boxes` and `objectness_logits` per image, and no losses.

        Raises:
            ConfigError: `features` are of another backbone than the GLIP's.
        """
        strides = self.glip.anchor_generator.strides
        require_fitting_features(features, images.tensor.shape[-2:], strides)
        asked = self.glip.vocabulary_prompts
        encoded = EncodedImages(list(features.values()), images.image_sizes)
        proposals = []
        found = self.glip.detect(encoded, [asked] * len(images))
        for detections, size in zip(found, images.image_sizes):
            instances = self.glip.postprocessor.to_instances(detections, asked, size)
            instances = instances[: self.proposals_per_image]
            proposals.append(
                Instances(
                    size,
                    proposal_boxes=instances.pred_boxes,
                    objectness_logits=instances.scores.logit(eps=1e-6),
                )
            )
        return proposals, {}


def build_rcnn_on_glip(
    glip: GLIP,
    roi_heads: nn.Module,
    glip_weights: str | None = None,
    proposals_per_image: int = 300,
) -> GeneralizedRCNN:
    """A stock GeneralizedRCNN whose backbone and proposals are a frozen GLIP's.

    Both names lead to one backbone: its weights appear twice in the state dict and once in memory.

    Args:
        glip: a GLIP with a vocabulary.
        roi_heads: Detectron2's, on "p3".."p7"; the part that is trained.
        glip_weights: checkpoint of the GLIP; None: it has its weights already.
    """
    if glip_weights is not None:
        WEIGHTS_REGISTRY.get("load_weights")(glip, glip_weights)
    return GeneralizedRCNN(
        backbone=glip.backbone,
        proposal_generator=GLIPProposalGenerator(glip, proposals_per_image),
        roi_heads=roi_heads,
        pixel_mean=glip.pixel_mean.flatten().tolist(),
        pixel_std=glip.pixel_std.flatten().tolist(),
        input_format=glip.input_format,
    )

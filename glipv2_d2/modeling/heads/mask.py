"""Language-guided masks (GLIPv2, Sections 3.1 and 3.2, Appendix D.1).

The last layer of a mask head, K class logits per pixel, becomes a dot product of each pixel with
the words after fusion, as GLIP did with the classes of boxes ("classification-to-matching"). The
same head then serves instance and referring segmentation.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from detectron2.layers import ROIAlign
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import BitMasks, Boxes, Instances, ROIMasks
from detectron2.structures.boxes import matched_pairwise_iou
from torch import nn

from ...errors import ConfigError
from ...language.prompt import TASKS
from ..boxes import to_continuous
from ..precision import at_least_float32, without_autocast
from ..processes import mean_over_processes
from .hourglass import StackedHourglass
from .task_head import RefiningHead, TrainingPass

__all__ = ["LanguageMaskHead", "MaskTargets", "bit_masks", "crop_masks"]


class MaskTargets(NamedTuple):
    """What masks are learned from, per image; boxes are continuous, in pixels of the input.

    Attributes:
        boxes: (G, 4), the true ones.
        masks: (G, H, W) bool, of the size of the input without padding.
        tokens: (G, T) bool, the words of each box's phrase.
        predicted: (P, 4), what the model predicts at the positives of the matcher.
        matched: (P,) int64, the true box that each of these belongs to.
    """

    boxes: list[torch.Tensor]
    masks: list[torch.Tensor]
    tokens: list[torch.Tensor]
    predicted: list[torch.Tensor]
    matched: list[torch.Tensor]

    @classmethod
    def of(cls, run: TrainingPass) -> "MaskTargets":
        """Those of a training pass.

        The boxes of a question or a caption may come without masks: nothing is learned from them.

        Raises:
            ConfigError: see `bit_masks`.
        """
        anchors, device = torch.cat(run.anchors), run.words.device
        images = []
        batch, targets = run.batch, run.targets
        known = zip(batch.inputs, batch.prompts, targets.boxes, targets.tokens)
        for (x, prompt, boxes, tokens), deltas, index in zip(known, run.output.deltas, run.matches):
            if prompt.kind in TASKS and not x["instances"].has("gt_masks"):
                x = {**x, "instances": x["instances"][:0]}
                boxes, tokens, index = boxes[:0], tokens[:0], torch.full_like(index, -1)
            positive = index >= 0
            predicted = run.box_coder.decode(deltas[positive].detach(), anchors[positive])
            boxes, predicted = to_continuous(boxes), to_continuous(predicted)
            images.append((boxes, bit_masks(x, device), tokens, predicted, index[positive]))
        return cls(*map(list, zip(*images)))


class LanguageMaskHead(RefiningHead):
    """RoI features of the fused pyramid, an hourglass, twice the resolution, matched with words.

    logit = x . W(e / 2) / exp(log_scale) + e . bias_lang as in `GroundingHead`, with e the mean of
    the phrase's unit-length words. Averaging the words instead of their logits, which the official
    fragment (roi_heads/mask_head/roi_mask_predictors.py) averages in training and at use, is the
    same, since the product is linear, and costs one product per pixel instead of T.

    Args:
        pooler: on the finest of the pyramid's levels, as many as it has scales.
        hourglass: on the RoI features.
        text_channels: L.
        log_scale: start of the learned log temperature (official 0).
        regions_per_image: trained on, at most: the true boxes, then predictions; a random choice
            where there are more.
        min_iou: of a prediction with the box it was matched to, to be trained on.
        weight: factor of the loss.
        regions_at_once: that go through the head together at inference; bounds the memory.
    """

    def __init__(
        self,
        *,
        pooler: ROIPooler,
        hourglass: StackedHourglass,
        text_channels: int,
        log_scale: float = 0.0,
        regions_per_image: int = 64,
        min_iou: float = 0.5,
        weight: float = 1.0,
        regions_at_once: int = 128,
    ):
        super().__init__()
        if regions_per_image < 1 or regions_at_once < 1:
            raise ValueError(
                "regions_per_image and regions_at_once must be at least 1, got "
                f"{regions_per_image} and {regions_at_once}"
            )
        self.pooler = pooler
        self.hourglass = hourglass
        channels = hourglass.channels
        self.upsample = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.text_projection = nn.Linear(text_channels, channels)
        self.log_scale = nn.Parameter(torch.tensor([float(log_scale)]))
        self.bias_lang = nn.Parameter(torch.zeros(text_channels))
        self.regions_per_image = regions_per_image
        self.min_iou = min_iou
        self.weight = weight
        self.regions_at_once = regions_at_once
        for layer in (self.upsample, self.text_projection):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    @property
    def mask_size(self) -> int:
        """S, of the square masks."""
        return 2 * self.pooler.output_size[0]

    @property
    def refined_shape(self) -> tuple[int, ...]:
        return (self.mask_size, self.mask_size)

    def losses(self, run: TrainingPass) -> dict[str, torch.Tensor]:
        """`loss_mask`, on the fused pyramid and words."""
        return {"loss_mask": self(run.levels, run.words, MaskTargets.of(run))}

    def forward(
        self, levels: Sequence[torch.Tensor], words: torch.Tensor, targets: MaskTargets
    ) -> torch.Tensor:
        """Weighted binary cross-entropy per pixel, averaged over the regions of all processes.

        Args:
            levels: (B, C, h, w), fine to coarse, fused. words: (B, T, L), fused.

        Returns:
            A scalar; 0 with a gradient for every parameter where there is no box.
        """
        regions = [self._regions(*image) for image in zip(*targets)]
        boxes, index = ([r[i] for r in regions] for i in range(2))
        logits = self.logits(levels, words, boxes, [t[i] for t, i in zip(targets.tokens, index)])
        gold = torch.cat(
            [crop_masks(*image, self.mask_size) for image in zip(targets.masks, index, boxes)]
        )
        loss = F.binary_cross_entropy_with_logits(logits, gold, reduction="none")
        # Not at least 1: of one region in N processes the mean is 1 / N. The smallest divisor keeps
        # processes without any at 0 instead of 0 / 0.
        count = mean_over_processes(logits.new_tensor(float(len(logits)))).clamp(min=1e-6)
        return self.weight * loss.mean(dim=(1, 2)).sum() / count

    def logits(
        self,
        levels: Sequence[torch.Tensor],
        words: torch.Tensor,
        boxes: Sequence[torch.Tensor],
        tokens: Sequence[torch.Tensor],
    ) -> torch.Tensor:
        """Masks of R regions, before the sigmoid.

        Args:
            levels, words: see `forward`.
            boxes: per image (r, 4), continuous, in pixels of the input.
            tokens: per image (r, T), truthy at the words of each region's phrase.

        Returns:
            (R, S, S) float32, stretched over the boxes, in the order of the images.
        """
        dtype = self.log_scale.dtype
        # Rounded to bfloat16 a box would be off by pixels.
        with without_autocast(words.device.type):
            finest = [at_least_float32(x) for x in levels[: len(self.pooler.level_poolers)]]
            x = self.pooler(finest, [Boxes(at_least_float32(b)) for b in boxes])
            x = x.to(dtype)
            words = F.normalize(words.to(dtype), dim=-1)
            phrases = torch.cat([_mean_words(w, t) for w, t in zip(words, tokens)])
        return self.match(x, phrases)

    def match(self, pooled: torch.Tensor, phrases: torch.Tensor) -> torch.Tensor:
        """Masks of R regions, before the sigmoid.

        Args:
            pooled: (R, C, s, s). phrases: (R, L), of each the mean of its unit-length words.

        Returns:
            (R, S, S) float32, stretched over the boxes.
        """
        x, dtype = F.relu(self.upsample(self.hourglass(pooled))), self.log_scale.dtype
        with without_autocast(phrases.device.type):
            weights = self.text_projection(phrases / 2) / self.log_scale.exp()
            products = torch.bmm(weights[:, None], x.to(dtype).flatten(2))[:, 0]
            bias = F.linear(phrases, self.bias_lang[None])
            return at_least_float32(products + bias).unflatten(1, x.shape[-2:])

    def refine(
        self,
        levels: Sequence[torch.Tensor],
        words: torch.Tensor,
        boxes: Sequence[torch.Tensor],
        tokens: Sequence[torch.Tensor],
    ) -> list[torch.Tensor]:
        """Masks as probabilities, (r, S, S) for each pair; see `RefiningHead.refine`."""
        masks = []
        for i, (own_boxes, own_tokens) in enumerate(zip(boxes, tokens)):
            image, step = [level[i : i + 1] for level in levels], self.regions_at_once
            parts = [
                self.logits(image, words[i : i + 1], [b], [t]).sigmoid()
                for b, t in zip(own_boxes.split(step), own_tokens.split(step))
            ]
            masks.append(torch.cat(parts))
        return masks

    def attach(self, instances: Instances, refined: torch.Tensor) -> None:
        """Set `pred_masks`: ROIMasks, probabilities stretched over the boxes."""
        instances.pred_masks = ROIMasks(refined)

    @torch.no_grad()
    def _regions(self, boxes, masks, tokens, predicted, matched):
        """Boxes (r, 4) of one image to train on, and the true box of each, (r,)."""
        index = torch.arange(len(boxes), device=boxes.device)
        own = index[torch.randperm(len(index), device=index.device)[: self.regions_per_image]]
        # A delta that overflowed is no box, and costs one prediction, not the training.
        finite = predicted.isfinite().all(dim=1)
        predicted, matched = Boxes(at_least_float32(predicted[finite].detach())), matched[finite]
        predicted.clip(masks.shape[-2:])
        near = matched_pairwise_iou(predicted, Boxes(boxes[matched])) >= self.min_iou
        near = near.nonzero()[:, 0]
        room = self.regions_per_image - len(own)
        near = near[torch.randperm(len(near), device=near.device)[:room]]
        return torch.cat((boxes[own], predicted.tensor[near])), torch.cat((own, matched[near]))


def crop_masks(
    masks: torch.Tensor, index: torch.Tensor, boxes: torch.Tensor, size: int
) -> torch.Tensor:
    """What of `masks[index]` lies in `boxes`, as (r, size, size) float32 of 0 and 1.

    As `BitMasks.crop_and_resize`, without a full-size copy of a mask for each of its boxes.

    Args:
        masks: (G, H, W) bool. index: (r,) int64. boxes: (r, 4), continuous, pixels.
    """
    rois = torch.cat((index[:, None].to(boxes.dtype), boxes), dim=1)
    align = ROIAlign((size, size), 1.0, 0, aligned=True)
    with without_autocast(masks.device.type):
        return (align(masks[:, None].float(), rois)[:, 0] >= 0.5).float()


def bit_masks(batched_input: dict, device: torch.device) -> torch.Tensor:
    """The true masks of a training input, (G, H, W) bool.

    Raises:
        ConfigError: it has boxes, but no `gt_masks`, or these are polygons, or not of the size of
            its "image".
    """
    instances = batched_input["instances"]
    size = tuple(batched_input["image"].shape[-2:])
    image = batched_input.get("file_name", "a training image")
    if len(instances) == 0:
        return torch.zeros(0, *size, dtype=torch.bool, device=device)
    if not instances.has("gt_masks"):
        raise ConfigError(
            f"{image} has {len(instances)} boxes but no gt_masks, which the mask head learns from: "
            "set dataloader.train.mapper.use_masks=True (yacs: MODEL.MASK_ON True) and train on "
            "data sets with segmentations, or set model.mask_head to None"
        )
    masks = instances.gt_masks
    if not isinstance(masks, BitMasks):
        raise ConfigError(
            f"{image}: gt_masks are {type(masks).__name__}, the mask head takes BitMasks; "
            'Detectron2\'s own mapper gives them with instance_mask_format="bitmask" (yacs: '
            'INPUT.MASK_FORMAT "bitmask")'
        )
    if tuple(masks.tensor.shape[1:]) != size:
        raise ConfigError(
            f"{image} is {size[0]} x {size[1]} pixels (height x width), but its gt_masks are "
            f"{masks.tensor.shape[1]} x {masks.tensor.shape[2]}: the data mapper has to put the "
            "masks through the transforms of the image, as GroundingDatasetMapper does"
        )
    return masks.tensor.to(device)


def _mean_words(words: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Words (T, L) and tokens (r, T) -> (r, L)."""
    weights = tokens.to(words.dtype)
    return weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-6) @ words

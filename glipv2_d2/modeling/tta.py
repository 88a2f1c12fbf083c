"""Multi-scale and flip test-time augmentation: the starred numbers of the GLIP papers."""

from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from detectron2.config import CfgNode, configurable
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.structures import Boxes, Instances, ROIMasks
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torchvision.ops import batched_nms

from ..errors import UsageError
from ..language.prompt import names_direction
from .mask_output import postprocess
from .meta_arch import GLIP
from .meta_arch.inference import prompts_to_ask
from .vocabulary import prompts_of

__all__ = ["GLIPWithTTA", "tta_in_proportion"]

# Of the usual size: 400, 500, ..., 1200 where that is 800.
TTA_PERCENT = (50, 62.5, 75, 87.5, 100, 112.5, 125, 137.5, 150)


class GLIPWithTTA(nn.Module):
    """Wraps a GLIP; called with the same inputs, in evaluation only.

    Every image is shown at each size, as it is and mirrored; the detections of all views are mapped
    back and merged by class-aware NMS. An image whose prompt says "left" or "right" is not
    mirrored.

    Masks are computed for the boxes that are kept, in every view, and averaged, as in Detectron2's
    GeneralizedRCNNWithTTA: each view goes through the model once more. As that is made, so is this
    with a yacs config, `GLIPWithTTA(cfg, model)`: sizes and flip are TEST.AUG's.

    Args:
        model: the GLIP, or one in DistributedDataParallel.
        min_sizes: lengths of the shorter side in pixels.
        max_size: bound of the longer side in pixels.
        flip: add the mirrored views.
        detections_per_image: kept after merging.
    """

    model: GLIP

    @configurable
    def __init__(
        self,
        model: GLIP | DistributedDataParallel,
        *,
        min_sizes: Sequence[int] = (400, 500, 600, 700, 800, 900, 1000, 1100, 1200),
        max_size: int = 2000,
        flip: bool = True,
        detections_per_image: int = 300,
    ):
        super().__init__()
        if not min_sizes:
            raise ValueError("test-time augmentation needs at least one entry in min_sizes")
        self.model = model.module if isinstance(model, DistributedDataParallel) else model
        self.resizes = [ResizeShortestEdge(size, max_size) for size in min_sizes]
        self.flip = flip
        self.detections_per_image = detections_per_image

    @classmethod
    def from_config(cls, cfg: CfgNode, model: nn.Module) -> dict:
        """TEST.AUG and TEST.DETECTIONS_PER_IMAGE, as Detectron2's own test-time augmentation."""
        return {
            "model": model,
            "min_sizes": cfg.TEST.AUG.MIN_SIZES,
            "max_size": cfg.TEST.AUG.MAX_SIZE,
            "flip": cfg.TEST.AUG.FLIP,
            "detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
        }

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def tokenizer(self):
        return self.model.tokenizer

    @property
    def input_format(self) -> str:
        return self.model.input_format

    def set_vocabulary(self, names: Sequence[str]) -> None:
        """See `GLIP.set_vocabulary`."""
        self.model.set_vocabulary(names)

    def forward(self, batched_inputs: list[dict]) -> list[dict]:
        """As `GLIP.forward` in evaluation."""
        if self.training:
            raise RuntimeError("test-time augmentation is for evaluation: call .eval() first")
        return self.inference(batched_inputs)

    @torch.no_grad()
    def inference(self, batched_inputs: list[dict], do_postprocess: bool = True) -> list:
        """As `GLIP.inference`; the input is the image that the views are made from."""
        results = [output["instances"] for output in self.outputs(batched_inputs)]
        if do_postprocess:
            return [{"instances": postprocess(r, x)} for r, x in zip(results, batched_inputs)]
        return results

    @torch.no_grad()
    def outputs(self, batched_inputs: list[dict]) -> list[dict]:
        """As `GLIP.outputs`.

        Raises:
            UsageError: a question, or a caption to be written.
        """
        for prompts in prompts_to_ask(self.model, batched_inputs):
            if any(prompt.kind == "question" or prompt.is_unwritten for prompt in prompts):
                raise UsageError(
                    "test-time augmentation merges the boxes of many views of an image; it neither "
                    "answers questions nor writes captions: use the model itself"
                )
        return [{"instances": self._detect(x)} for x in batched_inputs]

    def _detect(self, inputs: dict) -> Instances:
        height, width = inputs["image"].shape[1:]
        found = []
        for view, mirrored in self._views(inputs):
            view.update(height=height, width=width, boxes_only=True)
            instances = self.model.inference([view])[0]["instances"]
            if mirrored:
                instances.pred_boxes = _mirrored(instances.pred_boxes, width)
            found.append(instances)
        merged = Instances.cat(found)
        keep = batched_nms(
            merged.pred_boxes.tensor.double(),
            merged.scores.double(),
            merged.pred_classes,
            self.model.postprocessor.nms_threshold,
        )
        best = merged[keep[: self.detections_per_image]]
        if not inputs.get("boxes_only") and getattr(self.model, "mask_head", None) is not None:
            best.pred_masks = ROIMasks(self._masks(inputs, best))
        return best

    def _masks(self, inputs: dict, found: Instances) -> torch.Tensor:
        """(n, S, S), the mean over the views; boxes are in pixels of the image."""
        height, width = found.image_size
        masks = []
        for view, mirrored in islice(self._views(inputs), None if len(found) else 1):
            size = view["image"].shape[1:]
            boxes = _mirrored(found.pred_boxes, width) if mirrored else found.pred_boxes.clone()
            boxes.scale(size[1] / width, size[0] / height)
            there = Instances(tuple(size), pred_boxes=boxes, pred_classes=found.pred_classes)
            (seen,) = self.model.inference([view], [there], do_postprocess=False)
            masks.append(seen.pred_masks.tensor)
            if mirrored:
                masks[-1] = masks[-1].flip(2)
        return torch.stack(masks).mean(dim=0)

    def _views(self, inputs: dict) -> Iterator[tuple[dict, bool]]:
        image = inputs["image"].permute(1, 2, 0).cpu().numpy()
        prompts = prompts_of(inputs, self.model.vocabulary_prompts)
        directed = any(names_direction(prompt.caption) for prompt in prompts)
        mirrored = (False, True) if self.flip and not directed else (False,)
        for resize in self.resizes:
            for flip in mirrored:
                view = resize.get_transform(image).apply_image(image)
                view = view[:, ::-1] if flip else view
                yield {**inputs, "image": torch.as_tensor(view.copy()).permute(2, 0, 1)}, flip


def _mirrored(boxes: Boxes, width: int) -> Boxes:
    x1, y1, x2, y2 = boxes.tensor.unbind(dim=1)
    return Boxes(torch.stack((width - x2, y1, width - x1, y2), dim=1))


def tta_in_proportion(
    model: GLIP, min_size: int, max_size: int, *, flip: bool = True
) -> GLIPWithTTA:
    """GLIP's test-time augmentation (400 to 1200, at most 2000) for a model of another size."""
    sizes = [round(min_size * percent / 100) for percent in TTA_PERCENT]
    return GLIPWithTTA(model, min_sizes=sizes, max_size=round(max_size * 1.5), flip=flip)

"""Multi-scale and flip test-time augmentation: the starred numbers of the GLIP papers."""

from collections.abc import Iterator, Sequence

import torch
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.structures import Boxes, Instances
from torch import nn
from torchvision.ops import batched_nms

from ..structures import Prompt, names_direction

__all__ = ["GLIPWithTTA"]


class GLIPWithTTA(nn.Module):
    """Wraps a GLIP; called with the same inputs, in evaluation only.

    Every image is shown at each size, as it is and mirrored; the detections of all views are mapped
    back and merged by class-aware NMS; a mask is that of the view its box is from. An image whose
    prompt says "left" or "right" is not mirrored.

    Args:
        model: the GLIP.
        min_sizes: lengths of the shorter side in pixels.
        max_size: bound of the longer side in pixels.
        flip: add the mirrored views.
        detections_per_image: kept after merging.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        min_sizes: Sequence[int] = (400, 500, 600, 700, 800, 900, 1000, 1100, 1200),
        max_size: int = 2000,
        flip: bool = True,
        detections_per_image: int = 300,
    ):
        super().__init__()
        if not min_sizes:
            raise ValueError("test-time augmentation needs at least one entry in min_sizes")
        self.model = model
        self.resizes = [ResizeShortestEdge(size, max_size) for size in min_sizes]
        self.flip = flip
        self.detections_per_image = detections_per_image

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

    @torch.no_grad()
    def forward(self, batched_inputs: list[dict]) -> list[dict]:
        """As `GLIP.forward` in evaluation."""
        if self.training:
            raise RuntimeError("test-time augmentation is for evaluation: call .eval() first")
        return [{"instances": self._detect(x)} for x in batched_inputs]

    def _detect(self, inputs: dict) -> Instances:
        height = inputs.get("height", inputs["image"].shape[1])
        width = inputs.get("width", inputs["image"].shape[2])
        found = []
        for view, mirrored in self._views(inputs):
            instances = self.model([{**view, "height": height, "width": width}])[0]["instances"]
            if mirrored:
                instances = _mirror(instances, width)
            found.append(instances)
        merged = Instances.cat(found)
        keep = batched_nms(
            merged.pred_boxes.tensor.double(),
            merged.scores.double(),
            merged.pred_classes,
            self.model.postprocessor.nms_threshold,
        )
        return merged[keep[: self.detections_per_image]]

    def _views(self, inputs: dict) -> Iterator[tuple[dict, bool]]:
        image = inputs["image"].permute(1, 2, 0).cpu().numpy()
        prompts = inputs.get("prompt")
        directed = _names_directions(self.model.vocabulary_prompts if prompts is None else prompts)
        mirrored = (False, True) if self.flip and not directed else (False,)
        for resize in self.resizes:
            for flip in mirrored:
                view = resize.get_transform(image).apply_image(image)
                view = view[:, ::-1] if flip else view
                yield {**inputs, "image": torch.as_tensor(view.copy()).permute(2, 0, 1)}, flip


def _names_directions(prompts: Prompt | Sequence[Prompt]) -> bool:
    prompts = [prompts] if isinstance(prompts, Prompt) else prompts
    return any(names_direction(prompt.caption) for prompt in prompts)


def _mirror(instances: Instances, width: int) -> Instances:
    x1, y1, x2, y2 = instances.pred_boxes.tensor.unbind(dim=1)
    instances.pred_boxes = Boxes(torch.stack((width - x2, y1, width - x1, y2), dim=1))
    if instances.has("pred_masks"):
        instances.pred_masks = instances.pred_masks.flip(2)
    return instances

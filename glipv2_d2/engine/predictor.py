"""Use a model on images and words, without data sets or configs of one's own."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.structures import Instances
from torch import nn
from torchvision.ops import nms

from glipv2_d2.checkpoint import build_for_weights, load_weights
from glipv2_d2.config import apply_overrides, get_config
from glipv2_d2.data.images import read_image
from glipv2_d2.data.prompt_text import read_prompt
from glipv2_d2.engine.setup import resolve_device
from glipv2_d2.errors import UsageError
from glipv2_d2.modeling.mask_output import masks_as, paste_masks
from glipv2_d2.modeling.precision import inference_autocast
from glipv2_d2.modeling.tta import GLIPWithTTA
from glipv2_d2.structures import Prompt, PromptError

__all__ = ["GroundingPredictor", "keep_best_phrase", "tta_in_proportion"]

# Of the usual size: 400, 500, ..., 1200 where that is 800.
TTA_PERCENT = (50, 62.5, 75, 87.5, 100, 112.5, 125, 137.5, 150)

Image = str | Path | np.ndarray
PromptLike = str | Prompt | Sequence[str] | Sequence[Prompt]


class GroundingPredictor:
    """Finds what a prompt names in images.

        predictor = GroundingPredictor.from_config("demo/scenes.py", "glip_scenes.safetensors")
        instances = predictor("photo.jpg", ["red star", "blue ring"])[0]
        instances = predictor("photo.jpg", "a [red star] left of a [blue ring]")[0]

    Args:
        model: a GLIP model (or its test-time augmentation), on its device; put into eval mode.
        min_size, max_size: images are resized so that the short side has ``min_size`` pixels, but
            the long one at most ``max_size``.
        score_threshold: detections below it are left out, unless a call says otherwise.
        merge_iou: of boxes that overlap by more than this only the best stays, whatever their
            phrases, see :func:`keep_best_phrase`; None: one object may have several phrases.
        batch_size: images that go through the model together.
        precision: "fp32", "bf16" or, on CUDA, "fp16".
        phrases: back end that finds the phrases of a sentence without brackets (data/phrases.py).
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        min_size: int = 800,
        max_size: int = 1333,
        score_threshold: float = 0.0,
        merge_iou: float | None = None,
        batch_size: int = 1,
        precision: str = "fp32",
        phrases: str = "rules",
    ):
        if merge_iou is not None and not 0 < merge_iou <= 1:
            raise UsageError(f"merge_iou must lie in (0, 1] or be None, got {merge_iou}.")
        if not hasattr(model, "tokenizer"):
            raise UsageError(
                f"{type(model).__name__} takes no prompts: GroundingPredictor is for GLIP models; "
                "use Detectron2's own predictor, or train_net.py --eval-only."
            )
        if batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, got {batch_size}.")
        inference_autocast(model.device, precision)  # refuses now, not at the first image
        self.precision = precision
        self.model = model.eval()
        self.min_size, self.max_size = min_size, max_size
        self.resize = T.ResizeShortestEdge([min_size, min_size], max_size)
        self.score_threshold = score_threshold
        self.merge_iou = merge_iou
        self.phrases = phrases
        self.batch_size = batch_size

    @classmethod
    def from_config(
        cls,
        config: str | Path,
        weights: str | Path,
        *,
        device: str = "auto",
        batch_size: int = 1,
        score_threshold: float | None = None,
        overrides: Sequence[str] = (),
    ) -> "GroundingPredictor":
        """Build a model from a LazyConfig and load its weights.

        Args:
            config: path of the config, or the name of a shipped one ("pretrain/glip_t.py"). Its
                ``inference`` node gives sizes and threshold; without one they are GLIP's 800/1333.
            weights: ``.safetensors`` or ``.pth``, of this project or an official GLIP; must hold
                all weights of the model.
            device: "auto" (CUDA where there is one), "cpu", "cuda", ...
            batch_size, score_threshold: see the class.
            overrides: ``path.key=value`` for the config.

        Raises:
            ConfigError, CheckpointError: the config or the weights are missing or do not fit; or
                the device cannot be used.
        """
        device = resolve_device(device)
        cfg = apply_overrides(get_config(config), overrides)
        model = build_for_weights(cfg.model, weights)
        load_weights(model, weights)
        inference = cfg.get("inference", {})
        if score_threshold is None:
            score_threshold = inference.get("score_threshold", 0.0)
        return cls(
            model.to(device),
            min_size=inference.get("min_size", 800),
            max_size=inference.get("max_size", 1333),
            score_threshold=score_threshold,
            merge_iou=inference.get("merge_iou", None),
            batch_size=batch_size,
            precision=inference.get("precision", "fp32"),
        )

    def use_test_time_augmentation(self, *, flip: bool = True) -> None:
        """From now on show every image in several sizes and mirrored, and merge what is found.

        The sizes are GLIP's nine, 400 to 1200 for a usual size of 800, in proportion to this
        predictor's size.
        """
        model = getattr(self.model, "model", self.model)
        self.model = tta_in_proportion(model, self.min_size, self.max_size, flip=flip).eval()

    @torch.no_grad()
    def __call__(
        self,
        images: Image | Sequence[Image],
        prompts: PromptLike | Sequence[PromptLike],
        *,
        score_threshold: float | None = None,
    ) -> list[Instances]:
        """Detect.

        Args:
            images: one image or several; each a path, or an (H, W, 3) uint8 array in BGR order.
            prompts: what to look for. For all images alike: a list of class names (split into as
                many prompts as the token limit asks for); a text, which is read as `detect.py`
                reads it: "trash can, cat" and "trash can" are class names, a sentence is a caption
                with its phrases in [brackets] or found by the noun-phrase extractor
                (data/prompt_text.py); a Prompt. For each image its own: a list of Prompts or of
                lists of class names, one per image.
            score_threshold: overrides the predictor's.

        Returns:
            Per image an Instances on the CPU, in the image's own pixels, with ``pred_boxes``
            (xyxy), ``scores``, ``pred_classes`` (index of the class name or phrase),
            ``pred_phrases``, and ``pred_masks`` where the model has them; best first.

        Raises:
            ValueError: no image, an array of another kind, or not one prompt per image.
            PromptError: an empty prompt, or one that is too long.
            OSError: an image cannot be read.
        """
        images = [images] if isinstance(images, str | Path | np.ndarray) else list(images)
        if not images:
            raise ValueError("No image is given: `images` is empty.")
        asked = self._prompts_per_image(prompts, len(images))
        threshold = self.score_threshold if score_threshold is None else score_threshold
        results = []
        for start in range(0, len(images), self.batch_size):
            stop = start + self.batch_size
            pairs = zip(images[start:stop], asked[start:stop])
            inputs = [
                # What is not returned needs no masks.
                {**self._input(image, prompt), "min_score": threshold} for image, prompt in pairs
            ]
            autocast = inference_autocast(self.model.device, self.precision)
            with autocast, masks_as(self.model, "roi"):
                outputs = self.model(inputs)
            for output in outputs:
                found = _above(output["instances"].to("cpu"), threshold)
                if self.merge_iou is not None:
                    found = keep_best_phrase(found, self.merge_iou)
                results.append(paste_masks(found))  # of those that are left
        return results

    def _prompts_per_image(self, prompts, count: int) -> list[list[Prompt]]:
        if isinstance(prompts, str | Prompt):
            return [self._as_prompts(prompts)] * count
        prompts = list(prompts)
        if not prompts:
            raise PromptError("The prompt is empty: give class names, a caption or a Prompt.")
        if all(isinstance(item, str) for item in prompts):
            return [self._as_prompts(prompts)] * count
        if len(prompts) != count:
            raise ValueError(
                f"{len(prompts)} prompts are given for {count} images: give one for all images, "
                "or one per image."
            )
        return [self._as_prompts(item) for item in prompts]

    def _as_prompts(self, prompt: PromptLike) -> list[Prompt]:
        if isinstance(prompt, str):
            prompt = read_prompt(prompt, backend=self.phrases)
        if isinstance(prompt, Prompt):
            return [prompt]
        items = list(prompt) if isinstance(prompt, Sequence) else [prompt]
        if not items:
            raise PromptError("The prompt is empty: give class names, a caption or a Prompt.")
        if all(isinstance(item, Prompt) for item in items):
            return items
        if not all(isinstance(item, str) for item in items):
            kinds = ", ".join(sorted({type(item).__name__ for item in items}))
            raise PromptError(
                f"A prompt is a caption, class names or a Prompt, but this one holds {kinds}."
            )
        model = getattr(self.model, "model", self.model)  # within test-time augmentation
        return model.tokenizer.split(items, size=getattr(model, "chunk_size", None))

    def _input(self, image: Image, prompts: list[Prompt]) -> dict:
        pixels = image if isinstance(image, np.ndarray) else read_image(image)
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise ValueError(
                "An image array must be (H, W, 3) uint8 in BGR order, got shape "
                f"{pixels.shape} of {pixels.dtype}. (A path is converted from any mode.)"
            )
        height, width = pixels.shape[:2]
        resized = pixels
        # Augmentation makes its views from the image itself, not from one resized already.
        if not isinstance(self.model, GLIPWithTTA):
            resized = self.resize.get_transform(pixels).apply_image(pixels)
        if self.model.input_format == "RGB":
            resized = resized[:, :, ::-1]
        tensor = torch.as_tensor(np.ascontiguousarray(resized.transpose(2, 0, 1)))
        record = {"image": tensor, "height": height, "width": width, "prompt": prompts}
        if not isinstance(image, np.ndarray):
            record["file_name"] = str(image)
        return record


def tta_in_proportion(
    model: nn.Module, min_size: int, max_size: int, *, flip: bool = True
) -> GLIPWithTTA:
    """GLIP's test-time augmentation (400 to 1200, at most 2000) for a model of another size."""
    sizes = [round(min_size * percent / 100) for percent in TTA_PERCENT]
    return GLIPWithTTA(model, min_sizes=sizes, max_size=round(max_size * 1.5), flip=flip)


def _above(instances: Instances, threshold: float) -> Instances:
    instances = instances[instances.scores >= threshold]
    return instances[instances.scores.argsort(descending=True, stable=True)]


def keep_best_phrase(instances: Instances, iou: float) -> Instances:
    """Of boxes that overlap by more than `iou` keep the one with the best score.

    A model that is asked for sixty names finds many of them in every object, with falling scores,
    since GLIP suppresses overlaps within a class only.
    """
    return instances[nms(instances.pred_boxes.tensor, instances.scores, iou)]

"""Use a model on images and words, without data sets or configs of one's own."""

import inspect
import os
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from pathlib import Path

import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.structures import Instances
from torch import nn
from torchvision.ops import nms

from ..checkpoint import build_for_weights, load_weights
from ..config import apply_overrides, get_config
from ..data.images import AnyImage, bgr_array, listed
from ..errors import PromptError, UsageError
from ..language.noun_phrases import NOUN_PHRASE_EXTRACTORS
from ..language.prompt import Prompt
from ..language.prompt_text import read_prompt
from ..modeling.mask_output import masks_as, paste_masks
from ..modeling.precision import inference_autocast
from ..modeling.tta import GLIPWithTTA
from .setup import resolve_device

__all__ = ["GroundingPredictor", "keep_best_phrase", "tta_in_proportion"]

# Of the usual size: 400, 500, ..., 1200 where that is 800.
TTA_PERCENT = (50, 62.5, 75, 87.5, 100, 112.5, 125, 137.5, 150)

PromptLike = str | Prompt | Sequence[str] | Sequence[Prompt]


class GroundingPredictor:
    """Finds what a prompt names in images.

        predictor = GroundingPredictor.from_config("demo/scenes.py", "glip_scenes.safetensors")
        instances = predictor("photo.jpg", ["red star", "blue ring"])[0]
        instances = predictor("photo.jpg", "a [red star] left of a [blue ring]")[0]

    Args:
        model: a GLIP model (or its test-time augmentation), on its device; put into eval mode.
        min_size, max_size: images are resized so that the short side has `min_size` pixels, but
            the long one at most `max_size`.
        score_threshold: detections below it are left out, unless a call says otherwise.
        merge_iou: of boxes that overlap by more than this only the best stays, whatever their
            phrases, see `keep_best_phrase`; None: one object may have several phrases.
        batch_size: images that are read and handed to the model together. What is found in one
            does not depend on the others, see `GLIP.forward`.
        precision: "fp32", "bf16" or, on CUDA, "fp16".
        phrases: back end that finds the phrases of a sentence without brackets (data/phrases.py).

    Raises:
        UsageError: a model without prompts, a threshold that is not in [0, 1], a size that is not a
            whole number, or an unknown back end.
        ConfigError: a precision that the device does not have.
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
        if not hasattr(model, "tokenizer"):
            raise UsageError(
                f"{type(model).__name__} takes no prompts: GroundingPredictor is for GLIP models; "
                "use Detectron2's own predictor, or `glip eval`."
            )
        _check_options(
            model.device,
            min_size=min_size,
            max_size=max_size,
            score_threshold=score_threshold,
            merge_iou=merge_iou,
            batch_size=batch_size,
            precision=precision,
            phrases=phrases,
        )
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
        overrides: Sequence[str] = (),
        **options,
    ) -> "GroundingPredictor":
        """Build a model from a LazyConfig and load its weights.

        Args:
            config: path of the config, or the name of a shipped one ("pretrain/glip_t.py"). Its
                `inference` node gives sizes, thresholds and precision; what it does not say is as
                in the class.
            weights: `.safetensors` or `.pth`, of this project or an official GLIP; must hold
                all weights of the model.
            device: "auto" (CUDA where there is one), "cpu", "cuda", ...
            overrides: `path.key=value` for the config.
            options: of the class (`batch_size`, `merge_iou`, ...), in place of what the config
                says. None leaves it to the config; `merge_iou=None` switches it off.

        Raises:
            ConfigError, CheckpointError: the config or the weights are missing or do not fit; or
                the device cannot be used.
            UsageError: see the class.
            TypeError: the class has no such option.
        """
        known = inspect.signature(cls).parameters
        inspect.signature(cls).bind(None, **options)
        device = resolve_device(device)
        cfg = apply_overrides(get_config(config), overrides)
        settings = {key: value for key, value in cfg.get("inference", {}).items() if key in known}
        settings |= {k: v for k, v in options.items() if v is not None or k == "merge_iou"}
        _check_options(torch.device(device), **settings)  # before the weights are read
        model = build_for_weights(cfg.model, weights)
        load_weights(model, weights)
        return cls(model.to(device), **settings)

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
        images: AnyImage | Iterable[AnyImage],
        prompts: PromptLike | Sequence[PromptLike],
        *,
        score_threshold: float | None = None,
    ) -> list[Instances]:
        """Detect.

        Args:
            images: one image or several, in any iterable. Each a path or URL; a PIL image; an open
                file or the bytes of one; or an (H, W, 3) uint8 array in BGR order, as cv2 reads it.
            prompts: what to look for. One for all images: a text, which is read as `detect.py`
                reads it: "trash can, cat" and "trash can" are class names, a sentence is a caption
                with its phrases in [brackets] or found by the noun-phrase extractor
                (data/prompt_text.py); a list of class names, which is split into as many prompts
                as the token limit asks for; a Prompt. Or a list with one for each image. In a list
                of strings those without brackets are class names, for all images; those with
                brackets are captions, one for each image; both in one list are refused.
            score_threshold: overrides the predictor's.

        Returns:
            Per image an Instances on the CPU, in the image's own pixels, with `pred_boxes`
            (xyxy), `scores`, `pred_classes` (index of the class name or phrase),
            `pred_phrases`, and `pred_masks` where the model has them; best first.

        Raises:
            UsageError: no image, one of another kind, not one prompt per image, or a threshold that
                is not in [0, 1].
            PromptError: an empty prompt, or one that is too long.
            ImageReadError, OSError: an image cannot be read.
        """
        images = listed(images)
        asked = self._prompts_per_image(prompts, len(images))
        if score_threshold is not None:
            _check_fraction("score_threshold", score_threshold)
        threshold = self.score_threshold if score_threshold is None else score_threshold
        results = []
        for start in range(0, len(images), self.batch_size):
            inputs = [
                # What is not returned needs no masks.
                {**self._input(images[i], f"images[{i}]", asked[i]), "min_score": threshold}
                for i in range(start, min(start + self.batch_size, len(images)))
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
        if not isinstance(prompts, Iterable):
            raise PromptError(_kinds_message([prompts]))
        prompts = list(prompts)
        if not prompts or _are_class_names(prompts):
            return [self._as_prompts(prompts)] * count
        if len(prompts) != count:
            what = "caption" if isinstance(prompts[0], str) else "prompt"
            what += "s are" if len(prompts) > 1 else " is"
            raise UsageError(
                f"{len(prompts)} {what} given for {count} image{'s' * (count > 1)}: give one "
                "for all images, not in a list, or one per image."
            )
        return [self._as_prompts(item) for item in prompts]

    def _as_prompts(self, prompt: PromptLike) -> list[Prompt]:
        """The prompts of one image."""
        if isinstance(prompt, str):
            prompt = read_prompt(prompt, backend=self.phrases)
        if isinstance(prompt, Prompt):
            return [prompt]
        items = list(prompt) if isinstance(prompt, Iterable) else [prompt]
        if not items:
            raise PromptError("The prompt is empty: give class names, a caption or a Prompt.")
        if all(isinstance(item, Prompt) for item in items):
            return items
        if not all(isinstance(item, str) for item in items):
            raise PromptError(_kinds_message(items))
        if not _are_class_names(items):
            if len(items) > 1:
                raise PromptError(
                    f"One image is asked {len(items)} captions, {items[0]!r} and others: mark all "
                    "phrases in one caption, or give their names as a list of classes."
                )
            return self._as_prompts(items[0])
        model = getattr(self.model, "model", self.model)  # within test-time augmentation
        return model.tokenizer.split(items, size=getattr(model, "chunk_size", None))

    def _input(self, image: AnyImage, name: str, prompts: list[Prompt]) -> dict:
        pixels = bgr_array(image, name)
        height, width = pixels.shape[:2]
        # Augmentation makes its views from the image itself, not from one resized already.
        augmented = isinstance(self.model, GLIPWithTTA)
        for resize in self.model.resizes if augmented else [self.resize]:
            transform = resize.get_transform(pixels)
            if min(transform.new_h, transform.new_w) < 1:
                raise UsageError(
                    f"{name} of {height}x{width} pixels (height x width) is too narrow: nothing is "
                    f"left of it when its long side has {resize.max_size}. Cut it into pieces."
                )
        resized = pixels if augmented else transform.apply_image(pixels)
        if self.model.input_format == "RGB":
            resized = resized[:, :, ::-1]
        tensor = torch.as_tensor(np.ascontiguousarray(resized.transpose(2, 0, 1)))
        record = {"image": tensor, "height": height, "width": width, "prompt": prompts}
        if isinstance(image, str | os.PathLike):
            record["file_name"] = str(image)
        return record


def _check_options(
    device: torch.device,
    *,
    min_size=800,
    max_size=1333,
    score_threshold=0.0,
    merge_iou=None,
    batch_size=1,
    precision="fp32",
    phrases="rules",
) -> None:
    """Raise what `GroundingPredictor` promises to raise."""
    sizes = {"min_size": min_size, "max_size": max_size, "batch_size": batch_size}
    for name, value in sizes.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
            raise UsageError(f"{name} must be a whole number from 1, got {value!r}.")
    _check_fraction("score_threshold", score_threshold)
    if merge_iou is not None:
        _check_fraction("merge_iou", merge_iou)
        if merge_iou == 0:
            raise UsageError("merge_iou must lie in (0, 1] or be None, got 0.")
    if phrases not in NOUN_PHRASE_EXTRACTORS:
        known = ", ".join(map(repr, NOUN_PHRASE_EXTRACTORS))
        raise UsageError(f"phrases must be one of {known}, got {phrases!r}.")
    inference_autocast(device, precision)


def _check_fraction(name: str, value) -> None:
    # NaN is in no interval.
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= value <= 1:
        raise UsageError(f"{name} must be a number in [0, 1] (0.35 for 35 %), got {value!r}.")


def _are_class_names(items: Sequence) -> bool:
    """Whether a list holds strings without brackets only.

    Raises:
        PromptError: it holds strings with brackets and strings without.
    """
    if not all(isinstance(item, str) for item in items):
        return False
    marked = [item for item in items if "[" in item or "]" in item]
    if 0 < len(marked) < len(items):
        plain = next(item for item in items if item not in marked)
        raise PromptError(
            f"A list of strings holds class names, or captions with their phrases in [brackets], "
            f"but this one holds both: {plain!r} and {marked[0]!r}. Mark the phrases of every "
            "caption, or give the classes of an image as a list of their own."
        )
    return not marked


def _kinds_message(items: Sequence) -> str:
    kinds = ", ".join(sorted({type(item).__name__ for item in items}))
    return f"A prompt is a caption, class names or a Prompt, but this one holds {kinds}."


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

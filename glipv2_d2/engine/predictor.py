"""Use a model on images and words, without data sets or configs of one's own."""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from detectron2.data import transforms as T
from detectron2.structures import Instances

from ..checkpoint import load_prompt
from ..config import apply_overrides, get_config
from ..errors import UsageError
from ..export import ExportedGLIP
from ..images import AnyImage, listed
from ..language.noun_phrases import NOUN_PHRASE_EXTRACTORS
from ..language.prompt import Prompt
from ..language.words import Exemplar
from ..modeling import GLIP
from ..modeling.devices import resolve_device
from ..modeling.generation import Decoding
from ..modeling.precision import inference_autocast
from ..modeling.shortlist import Shortlist, require_contrast
from ..modeling.tta import GLIPWithTTA, tta_in_proportion
from .asked import (
    Negatives,
    PromptLike,
    Request,
    check_fraction,
    check_thresholds,
    to_answer,
    to_caption,
    to_detect,
)
from .encoded_image import EncodedImage, encode_together
from .exemplars import make_exemplar
from .image_input import image_input
from .loading import load_model, require_precision, with_settings_of_export
from .results import Answer, Caption
from .tiling import ask_in_tiles

__all__ = ["GroundingPredictor"]


class GroundingPredictor:
    """Finds what a prompt names in images; answers questions and writes captions.

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
        phrase_threshold: a question and a caption have at most one box of each phrase, the best;
            it is left out where it scores less than this. It is lower than `score_threshold`: the
            phrases of a caption are there, if the caption is true.
        batch_size: images that are read and handed to the model together. What is found in one
            does not depend on the others, see `GLIP.forward`.
        precision: "fp32", "bf16" or, on CUDA, "fp16".
        phrases: back end that finds the phrases of a sentence without brackets, see
            `extract_noun_phrases`.
        shortlist: of a list of more names than this each image is asked for those that its regions
            are most like before the words are fused in (docs/shortlist.md); None: for all.
        pinned: names that are always on the shortlist.

    Raises:
        UsageError: a model without prompts, a threshold that is not in [0, 1], a size that is not a
            whole number, or an unknown back end.
        ConfigError: a precision that the device or the export does not have; or a shortlist for a
            model without the contrast.
    """

    def __init__(
        self,
        model: GLIP | GLIPWithTTA,
        *,
        min_size: int = 800,
        max_size: int = 1333,
        score_threshold: float = 0.0,
        merge_iou: float | None = None,
        phrase_threshold: float = 0.1,
        batch_size: int = 1,
        precision: str = "fp32",
        phrases: str = "rules",
        shortlist: int | None = None,
        pinned: Sequence[str] = (),
    ):
        if not hasattr(model, "tokenizer"):
            raise UsageError(
                f"{type(model).__name__} takes no prompts: GroundingPredictor is for GLIP models; "
                "use Detectron2's own predictor, or `glip eval`."
            )
        self.min_size, self.max_size = min_size, max_size
        self.score_threshold = score_threshold
        self.merge_iou = merge_iou
        self.phrase_threshold = phrase_threshold
        self.batch_size = batch_size
        self.precision = precision
        self.phrases = phrases
        self.shortlist, self.pinned = shortlist, pinned
        _check_options(model.device, vars(self))
        self.resize = T.ResizeShortestEdge([min_size, min_size], max_size)
        self.model: GLIP | GLIPWithTTA = model.eval()
        require_precision(self.glip, precision)
        if shortlist is not None:
            require_contrast(self.glip)

    @property
    def glip(self) -> GLIP:
        """The model itself, where `model` is its test-time augmentation, too."""
        model: Any = self.model
        return model.model if isinstance(model, GLIPWithTTA) else model

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
                all weights of the model. Or the folder of an export, which is used with the
                `inference` settings that it was made with.
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
        cfg = with_settings_of_export(cfg, weights, overrides)
        settings = {key: value for key, value in cfg.get("inference", {}).items() if key in known}
        settings |= {k: v for k, v in options.items() if v is not None or k == "merge_iou"}
        _check_options(torch.device(device), settings)  # before the weights are read
        model: Any = load_model(cfg.model, weights, device)
        return cls(model, **settings)

    @classmethod
    def from_export(
        cls, folder: str | Path, device: str = "cpu", **options
    ) -> "GroundingPredictor":
        """A predictor on an export, with the sizes and thresholds that it was made with.

            predictor = GroundingPredictor.from_export("output/exported")
            instances = predictor("photo.jpg", ["red star", "blue ring"])[0]

        Args:
            folder: of `glip export`.
            device: "auto", "cpu", "cuda", ... OpenVINO's graphs run on the CPU whatever it says.
            options: of the class, in place of what the export says.

        Raises:
            ExportError: see `ExportedGLIP`. ConfigError: the device cannot be used.
        """
        model = ExportedGLIP(folder, device)
        return cls(model, **{**model.manifest.inference, **options})

    def load_prompt(self, path: str | Path, name: str | None = None) -> list[Prompt]:
        """Load what was learned about a prompt (`glip train --mode prompt`).

            pets = predictor.load_prompt("pets.safetensors")
            instances = predictor("photo.jpg", [*pets, *predictor.load_prompt("signs.safetensors")])

        Args, errors: see `load_prompt` of `glipv2_d2.checkpoint`.

        Returns:
            Prompts. A list of such is asked of every image; the classes of a second file are
            numbered after those of the first.
        """
        return load_prompt(self.glip, path, name)

    def exemplar(
        self,
        images: AnyImage | Sequence[AnyImage],
        boxes: Any,
        *,
        name: str = "object",
        text_weight: float = 0.0,
        words: Sequence[str] | None = None,
    ) -> Exemplar:
        """What is in some boxes, as a word: to look for more of it, or for nothing like it.

            bolt = predictor.exemplar("shelf.jpg", [[40, 60, 90, 120]], name="bolt")
            instances = predictor(photos, [bolt, "nut"], negatives=["washer"])

        It stands wherever a class name does: in a list of classes, among the words of one
        (`[[bolt, "screw"], "nut"]`), among negatives. How well it does: docs/open_world.md.

        Args:
            images: one image, or several.
            boxes: [[x1, y1, x2, y2], ...] in pixels of the image; of several images a list of such
                lists. All boxes of all images make one word, their mean.
            name: its name in the results, and the words that it takes the place of.
            text_weight: how much of the words of `name` is left in it; 0: none, 0.5: half.
            words: names as the model knows them from its training, some dozens: the exemplar's
                word is sought among such. None: those of LVIS.

        Raises:
            ConfigError: the model was trained without L_inter.
            UsageError: not one list of boxes per image; a box that is outside its image or too
                small; or see `set_image`.
            ImageReadError, OSError: an image cannot be read.
        """
        check_fraction("text_weight", text_weight)
        return make_exemplar(self, images, boxes, name, text_weight, words)

    def use_test_time_augmentation(self, *, flip: bool = True) -> None:
        """From now on show every image in several sizes and mirrored, and merge what is found.

        The sizes are GLIP's nine, 400 to 1200 for a usual size of 800, in proportion to this
        predictor's size.
        """
        self.model = tta_in_proportion(self.glip, self.min_size, self.max_size, flip=flip).eval()

    def __call__(
        self,
        images: AnyImage | Iterable[AnyImage],
        prompts: PromptLike | Sequence[PromptLike],
        *,
        score_threshold: float | None = None,
        merge_iou: float | None = None,
        masks: bool = True,
        tile: int | None = None,
        negatives: Negatives = (),
    ) -> list[Instances]:
        """Detect.

        Args:
            images: one image or several, in any iterable. Each a path, a URL or a member of an
                archive ("photos.zip!beach.jpg"); a PIL image; an open file or the bytes of one; an
                (H, W, 3) uint8 array in BGR order, as cv2 reads it; or a (3, H, W) tensor in RGB
                order, as torchvision reads it, uint8 or floating-point in 0..1. A (B, 3, H, W)
                tensor is B images.
            prompts: what to look for. One for all images: a text, which is read as `detect.py`
                reads it: "trash can, cat" and "trash can" are class names, a sentence is a caption
                with its phrases in [brackets] or found by the noun-phrase extractor
                (language/prompt_text.py); a list of class names, which is split into as many
                prompts as the token limit asks for; a Prompt; the prompts of `load_prompt`. Or a
                list with one for each image. In a list of strings those without brackets are class
                names, for all images; those with brackets are captions, one for each image; both in
                one list are refused. A class may have several words, "cat, kitten; dog" or
                [["cat", "kitten"], "dog"]: it is scored by the best of them and named by the first.
                (A list of lists alone is one prompt for each image.)
            score_threshold, merge_iou: in place of the predictor's; a `merge_iou` of 1 merges
                nothing.
            masks: False leaves out the masks of a model that has them.
            tile: an image that is larger is shown to the model in tiles of this many pixels, too,
                so that small things are found; see `detect_in_tiles`.
            negatives: names of what is not sought and may be taken for it, ["fox", "wolf"] or
                "fox, wolf". They are read beside every prompt; a box is left out where one of them
                describes it better (see `GroundingPostprocessor.merge`), and they are never in the
                results.

        Returns:
            Per image an Instances on the CPU, in the image's own pixels, with `pred_boxes`
            (xyxy), `scores`, `pred_classes` (index of the class name or phrase),
            `pred_phrases`, and `pred_masks` where the model has them; best first.

        Raises:
            UsageError: no image, one of another kind, not one prompt per image, a threshold that
                is not in [0, 1], or a tile that is too small.
            PromptError: an empty prompt, or one that is too long.
            ImageReadError, OSError: an image cannot be read.
        """
        images = listed(images)
        request = to_detect(
            self, prompts, len(images), score_threshold, merge_iou, masks, negatives
        )
        if tile is not None:
            return list(ask_in_tiles(self, images, request, tile))
        return list(self._ask(images, request))

    def answer(
        self,
        images: AnyImage | Iterable[AnyImage],
        questions: str | Prompt | Sequence[str | Prompt],
        *,
        score_threshold: float | None = None,
        masks: bool = True,
    ) -> list[Answer]:
        """Answer a question about each image, and find what it speaks of.

            predictor.answer("photo.jpg", "what color is the star?")[0].answer

        Args:
            images: see `__call__`.
            questions: one for all images, or a list with one for each. Its phrases are marked with
                [brackets], or else its noun phrases are found; a Prompt of kind "question" has its
                own.
            score_threshold: in place of the predictor's `phrase_threshold`.
            masks: see `__call__`.

        Raises:
            UsageError: see `__call__`.
            PromptError: a question that is empty, or too long for the model.
            ConfigError: the model has no `vqa_head`.
            ImageReadError, OSError: an image cannot be read.
        """
        images = listed(images)
        request = to_answer(self, questions, len(images), score_threshold, masks)
        return list(self._ask(images, request))

    def caption(
        self,
        images: AnyImage | Iterable[AnyImage],
        beginning: str = "",
        *,
        decoding: Decoding | None = None,
        score_threshold: float | None = None,
        masks: bool = True,
    ) -> list[Caption]:
        """Write a caption for each image, and find what it speaks of.

            predictor.caption("photo.jpg", decoding=Decoding(beam_size=5))[0].caption

        Args:
            images: see `__call__`.
            beginning: the caption goes on from it.
            decoding: how it is written; None: as the model's `caption_head` says.
            score_threshold: in place of the predictor's `phrase_threshold`.
            masks: see `__call__`.

        Raises:
            UsageError: see `__call__`; or a decoding that is not possible.
            PromptError: a beginning that is no text, blank, or too long for the model.
            ConfigError: the model has no `caption_head`.
            ImageReadError, OSError: an image cannot be read.
        """
        images = listed(images)
        request = to_caption(self, beginning, len(images), decoding, score_threshold, masks)
        return list(self._ask(images, request))

    @torch.no_grad()
    def _ask(self, images: list[AnyImage], request: Request) -> Iterator[Any]:
        for start in range(0, len(images), self.batch_size):
            inputs = [
                {**image_input(self, images[i], f"images[{i}]"), "prompt": request.prompts[i]}
                | request.options
                for i in range(start, min(start + self.batch_size, len(images)))
            ]
            with inference_autocast(self.model.device, self.precision):
                outputs = self.model.outputs(inputs)
            yield from map(request.read, outputs, inputs)

    def set_image(self, image: AnyImage) -> EncodedImage:
        """Encode an image once, to ask about it any number of times.

            image = predictor.set_image("photo.jpg")
            stars = image.predict(["red star", "blue star"])
            ring = image.predict("a [blue ring] beside a star")
            color = image.answer("what color is the ring?")

        It belongs to the caller: threads may have images of their own, or ask about one.

        Raises:
            UsageError: an image of another kind; or the predictor uses test-time augmentation.
            ImageReadError, OSError: it cannot be read.
        """
        return encode_together(self, [image_input(self, image, "image")])[0]


def _check_options(device: torch.device, options: Mapping[str, Any]) -> None:
    """Raise what `GroundingPredictor` promises to raise; what is left out has a good default."""
    for name in ("min_size", "max_size", "batch_size"):
        value = options.get(name, 1)
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
            raise UsageError(f"{name} must be a whole number from 1, got {value!r}")
    check_thresholds(options.get("score_threshold", 0), options.get("merge_iou"))
    check_fraction("phrase_threshold", options.get("phrase_threshold", 0))
    if options.get("phrases", "rules") not in NOUN_PHRASE_EXTRACTORS:
        known = ", ".join(repr(name) for name, _ in NOUN_PHRASE_EXTRACTORS)
        raise UsageError(f"phrases must be one of {known}, got {options['phrases']!r}")
    Shortlist.of_settings(options)
    inference_autocast(device, options.get("precision", "fp32"))

"""What a program needs to know around the graphs: `export.json`."""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detectron2.modeling.anchor_generator import DefaultAnchorGenerator

from ..checkpoint.file_kinds import EXPORT_FILE
from ..errors import ExportError
from ..language.prompt import Prompt
from ..modeling import GLIP
from .graphs import read_words

__all__ = [
    "FORMATS",
    "OF_MODEL",
    "OF_POSTPROCESSOR",
    "PROMPTS_FILE",
    "TOKENIZER_FOLDER",
    "Manifest",
]

PROMPTS_FILE = "prompts.safetensors"
TOKENIZER_FOLDER = "tokenizer"
FORMATS = {"torch": ".pt2", "onnx": ".onnx", "openvino": ".xml"}
VERSION = 1
# Settings that go into the file, and out of it, under the names of the constructors' arguments.
OF_MODEL = ("input_format", "chunk_size", "prompt_batch_size", "min_score")
OF_POSTPROCESSOR = (
    "score_threshold",
    "topk_candidates",
    "nms_threshold",
    "detections_per_prompt",
    "detections_per_image",
)


@dataclass(frozen=True)
class Manifest:
    """Settings of an exported GLIP; plain numbers, so that every language can read them.

    Attributes:
        format: "torch", "onnx" or "openvino".
        words: which of the language backbone's features the image graph reads ("hidden" or
            "embedded").
        input_format: channel order, "BGR" or "RGB".
        pixel_mean, pixel_std: per channel of the values 0..255.
        size_divisibility: the image graph pads its input to multiples of it, right and below with
            zeros, after normalizing.
        strides: of the levels, pixels. Level i of a padded (H, W) input has ceil(H / stride) rows.
        anchor_offset: position of the first anchor's center in strides.
        cell_anchors: per level (x1, y1, x2, y2) around that center, continuous.
        box_weights, scale_clamp: of the box coder.
        score_threshold, topk_candidates, nms_threshold, detections_per_prompt,
            detections_per_image, min_score: post-processing.
        max_tokens: of a prompt. chunk_size: most names of a prompt; None: as many as fit.
        prompt_batch_size: most (image, prompt) pairs of one call.
        prompts: of an export for a fixed prompt, as Prompt's fields; empty: any prompt.
        inference: of the predictor: min_size, max_size, score_threshold, merge_iou,
            phrase_threshold, phrases, shortlist, pinned.
        notes: how the export was made.
        answers: that the answer graph scores, in its order; none: there is no such graph.
        ground_answer: questions are asked with [MASK] at their end, whose boxes are the answer's.
        mask_token_id: the token of that [MASK], which no caption has; None: of exports that have
            no such token, or were made when the tokenizer's own was meant.
        causal: the image and text graphs take captions, too, and are told which texts are some.
        decoding: how captions are written by default.
        mask_size: S, of square masks that are stretched over their boxes; 0: no mask graph.
        ranks: the graphs "regions" and "names" tell which names are worth asking for (shortlist).
        version: of this file's format.
    """

    format: str
    words: str
    input_format: str
    pixel_mean: list[float]
    pixel_std: list[float]
    size_divisibility: int
    strides: list[int]
    anchor_offset: float
    cell_anchors: list[list[float]]
    box_weights: list[float]
    scale_clamp: float
    score_threshold: float
    topk_candidates: int
    nms_threshold: float
    detections_per_prompt: int
    max_tokens: int
    chunk_size: int | None
    prompt_batch_size: int
    prompts: list[dict] = field(default_factory=list)
    inference: dict = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    detections_per_image: int | None = None
    min_score: float = 0.0
    answers: list[str] = field(default_factory=list)
    ground_answer: bool = False
    mask_token_id: int | None = None
    causal: bool = False
    decoding: dict = field(default_factory=dict)
    mask_size: int = 0
    ranks: bool = False
    version: int = VERSION

    @classmethod
    def of(cls, model: GLIP, **more) -> "Manifest":
        """The settings of a model. `more`: format, prompts, inference, notes.

        Raises:
            ExportError: a part of the model is of a kind that the file cannot describe.
        """
        anchors, post = model.anchor_generator, model.postprocessor
        if not isinstance(anchors, DefaultAnchorGenerator) or set(anchors.num_anchors) != {1}:
            raise ExportError(
                "exporting needs Detectron2's DefaultAnchorGenerator with one anchor per position, "
                f"as GLIP has; this model has a {type(anchors).__name__}"
            )
        answers: Any = getattr(model, "vqa_head", None)
        captions: Any = getattr(model, "caption_head", None)
        masks: Any = getattr(model, "mask_head", None)
        # The names of a fixed vocabulary cannot be written anew.
        ranks = getattr(model, "contrast", None) is not None and not more.get("prompts")
        return cls(
            words=read_words(model),
            pixel_mean=model.pixel_mean.flatten().tolist(),
            pixel_std=model.pixel_std.flatten().tolist(),
            size_divisibility=model.backbone.size_divisibility,
            strides=list(anchors.strides),
            anchor_offset=anchors.offset,
            cell_anchors=[cell.flatten().tolist() for cell in anchors.cell_anchors],
            box_weights=list(post.box_coder.weights),
            scale_clamp=post.box_coder.scale_clamp,
            max_tokens=model.tokenizer.max_tokens,
            answers=[] if answers is None else answers.answers,
            ground_answer=answers is not None and answers.ground_answer,
            mask_token_id=model.tokenizer.mask_token_id,
            causal=captions is not None,
            mask_size=0 if masks is None else masks.mask_size,
            ranks=ranks and read_words(model) == "hidden",  # which the contrast is of, too
            decoding={} if captions is None else dataclasses.asdict(captions.decoding),
            **{name: getattr(model, name) for name in OF_MODEL},
            **{name: getattr(post, name) for name in OF_POSTPROCESSOR},
            **more,
        )

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read `export.json`.

        Raises:
            ExportError: it is not there, or not one that this version can read.
        """
        path = folder / EXPORT_FILE
        if not path.is_file():
            raise ExportError(
                f"'{folder}' is no exported model: it has no {EXPORT_FILE}; "
                "`glip export` makes such a folder"
            )
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            if fields["version"] != VERSION:
                raise ExportError(
                    f"'{path}' is of version {fields['version']}, this program reads version "
                    f"{VERSION}: export the model again"
                )
            return cls(**fields)
        except (ValueError, TypeError, KeyError) as error:
            raise ExportError(f"'{path}' is damaged ({error}): export the model again") from error

    def write(self, folder: Path) -> None:
        """Write `export.json`."""
        text = json.dumps(dataclasses.asdict(self), indent=1)
        (folder / EXPORT_FILE).write_text(text + "\n", encoding="utf-8")

    def fixed_prompts(self) -> list[Prompt]:
        """The prompts that the export was made for; none: it takes any."""
        return [Prompt(**fields) for fields in self.prompts]

    @property
    def writes(self) -> bool:
        """There are graphs that write captions, which no fixed prompt asks for."""
        return self.causal and not self.prompts

    def values(self, names: Iterable[str]) -> dict[str, Any]:
        """Some of the settings, as arguments of what they came from."""
        return {name: getattr(self, name) for name in names}

    def graph_file(self, name: str) -> str:
        """File name of the graph "image", "text", "mask", "answer", "reading", "caption", "regions"
        or "names"."""
        return name + FORMATS[self.format]

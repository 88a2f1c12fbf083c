"""The graphs of a GLIP: words from tokens, predictions from an image and words; masks; answers;
captions; regions and words before fusion, for a shortlist.

Captions take two: what their words read of an image, computed once, and the next words of texts so
far. The text is read anew for each word, so that nobody has to carry keys and values along: next to
the image tower its cost is small, and beam search is choosing rows.
"""

from typing import Any

import torch
from detectron2.modeling.poolers import assign_boxes_to_levels
from detectron2.structures import Boxes
from torch import nn
from torch.export import ExportedProgram

from ..language.tokenized import TokenizedPrompts
from ..modeling import GLIP
from ..modeling.heads import VqaHead
from ..modeling.text import TextFeatures
from ..modeling.text.attention import KeyValueCache
from .tracing import export_program

__all__ = ["ANSWER_INPUTS", "ANSWER_OUTPUTS", "CAPTION_INPUTS", "CAPTION_OUTPUTS", "IMAGE_INPUTS",
           "IMAGE_OUTPUTS", "MASK_INPUTS", "MASK_OUTPUTS", "NAMES_INPUTS", "NAMES_OUTPUTS",
           "READING_INPUTS", "READING_OUTPUTS", "REGIONS_INPUTS", "REGIONS_OUTPUTS", "TEXT_INPUTS",
           "TEXT_OUTPUTS", "ImagePath", "MaskPath", "TextPath", "export_answer_path",
           "export_caption_path", "export_image_path", "export_mask_path", "export_names_path",
           "export_reading_path", "export_regions_path", "export_text_path",
           "read_words"]  # fmt: skip

# The finest levels, of models with masks; as many as their head pools from.
_LEVELS = tuple(f"level{i}" for i in range(5))
# "causal" is an input of models that write captions.
IMAGE_INPUTS = ("images", "words", "mask", "causal")
IMAGE_OUTPUTS = ("logits", "deltas", "centerness", "fused_words", *_LEVELS)
MASK_INPUTS = ("fused_words", "boxes", "rows", "tokens", *_LEVELS)
MASK_OUTPUTS = ("mask_logits",)
READING_INPUTS = ("images",)
READING_OUTPUTS = ("read",)
CAPTION_INPUTS = ("read", "texts")
CAPTION_OUTPUTS = ("next_logits",)
TEXT_INPUTS = ("input_ids", "mask", "causal")
TEXT_OUTPUTS = ("words",)
ANSWER_INPUTS = ("fused_words", "mask")
ANSWER_OUTPUTS = ("answer_logits",)
REGIONS_INPUTS = ("images",)
REGIONS_OUTPUTS = ("regions",)
NAMES_INPUTS = ("words",)
NAMES_OUTPUTS = ("common_words",)

# Sizes of the example in strides of the backbone: the coarsest stage has more than one window of
# any Swin (12), and no two sizes are alike.
_EXAMPLE_SIZE = (13, 15)
_EXAMPLE_TOKENS = 9


class ImagePath(nn.Module):
    """Backbone, fusion neck and head of a GLIP, with plain tensors in and out."""

    def __init__(self, model: GLIP):
        super().__init__()
        self.backbone = model.backbone
        self.neck = model.neck
        self.head = model.head
        masks: Any = getattr(model, "mask_head", None)
        self.levels_read = 0 if masks is None else len(masks.pooler.level_poolers)

    def forward(
        self,
        images: torch.Tensor,
        words: torch.Tensor,
        mask: torch.Tensor,
        causal: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """Predict.

        Args:
            images: (B, 3, H, W) normalized; of any size, padded here as GLIP pads: right and below
                with zeros, to multiples of the backbone's divisibility.
            words: (B, T, L), the field of TextFeatures that the neck reads.
            mask: (B, T) bool, True for real tokens.
            causal: (B,) bool, the captions among the texts, which the image does not look at.

        Returns:
            logits (B, N, T), deltas (B, N, 4) and centerness (B, N): see GroundingOutput; and the
            fused words (B, T, L), which the task heads read; of a model with masks the finest fused
            levels (B, C, h, w), too.
        """
        levels = _levels(self.backbone, images)
        seen = None if causal is None else ~causal
        levels, fused = self.neck(levels, TextFeatures(words, words, mask, causal, seen))
        output = self.head(levels, fused)
        read = levels[: self.levels_read]
        return output.logits, output.deltas, output.centerness, fused, *read


def _levels(backbone: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    step: Any = backbone.size_divisibility
    height, width = ((size + step - 1) // step * step for size in images.shape[-2:])
    right, below = width - images.shape[3], height - images.shape[2]
    return list(backbone(nn.functional.pad(images, (0, right, 0, below))).values())


class TextPath(nn.Module):
    """The language backbone of a GLIP, with plain tensors in and out."""

    def __init__(self, model: GLIP):
        super().__init__()
        self.language_backbone = model.language_backbone
        self.reads = read_words(model)

    def forward(
        self, input_ids: torch.Tensor, mask: torch.Tensor, causal: torch.Tensor | None = None
    ) -> torch.Tensor:
        """input_ids (B, T) int64, mask (B, T) bool, causal (B,) bool -> words (B, T, L)."""
        tokens = TokenizedPrompts(input_ids, mask, positive_maps=[], causal=causal)
        return getattr(self.language_backbone(tokens), self.reads)


class MaskPath(nn.Module):
    """The mask head of a GLIPv2, with plain tensors in and out."""

    def __init__(self, model: GLIP):
        super().__init__()
        self.head: Any = model.mask_head

    def forward(
        self,
        fused_words: torch.Tensor,
        boxes: torch.Tensor,
        rows: torch.Tensor,
        tokens: torch.Tensor,
        *levels: torch.Tensor,
    ) -> torch.Tensor:
        """Masks of R boxes of B images.

        The pooler sorts the boxes by their level, so that the sizes depend on the boxes; here each
        is pooled from every level, and that of its own is taken.

        Args:
            fused_words: (B, T, L). boxes: (R, 4), continuous, pixels of `images`.
            rows: (R,) int64, of each box its image. tokens: (R, T) bool, the words of its phrase.
            levels: see `ImagePath`.

        Returns:
            (R, S, S) logits, stretched over the boxes.
        """
        pooler = self.head.pooler
        own = assign_boxes_to_levels(
            [Boxes(boxes)], pooler.min_level, pooler.max_level, pooler.canonical_box_size,
            pooler.canonical_level,
        )[:, None, None, None]  # fmt: skip
        regions = torch.cat((rows[:, None].to(boxes.dtype), boxes), dim=1)
        pooled = pooler.level_poolers[0](levels[0], regions)
        for i, (pool, level) in enumerate(zip(pooler.level_poolers[1:], levels[1:]), start=1):
            pooled = torch.where(own == i, pool(level, regions), pooled)
        words = nn.functional.normalize(fused_words, dim=-1)[rows]
        weights = tokens.to(words.dtype)
        weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-6)
        return self.head.match(pooled, (weights[:, None] @ words)[:, 0])


class AnswerPath(nn.Module):
    """The VQA head of a GLIPv2, with plain tensors in and out."""

    def __init__(self, head: VqaHead):
        super().__init__()
        self.head = head

    def forward(self, fused_words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """fused_words (B, T, L), mask (B, T) bool -> scores before the sigmoid (B, answers)."""
        return self.head.logits(fused_words, mask)


class RegionsPath(nn.Module):
    """The positions of images in the space of the contrast (L_inter)."""

    def __init__(self, model: GLIP):
        super().__init__()
        self.backbone = model.backbone
        self.contrast: Any = model.contrast

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """images, see `ImagePath` -> (B, N, D) of unit length."""
        return self.contrast.embed_regions(_levels(self.backbone, images))


class NamesPath(nn.Module):
    """Words in that space."""

    def __init__(self, model: GLIP):
        super().__init__()
        self.contrast: Any = model.contrast

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        """words (B, T, L), before fusion -> (B, T, D) of unit length."""
        return self.contrast.embed_words(words)


class ReadingPath(nn.Module):
    """What the words of captions read of images: backbone and tower without text."""

    def __init__(self, model: GLIP):
        super().__init__()
        self.backbone = model.backbone
        self.neck = model.neck

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """images, see `ImagePath` -> (blocks, B, N, C)."""
        neck: Any = self.neck
        return torch.stack(neck.read_images(_levels(self.backbone, images)))


class CaptionPath(nn.Module):
    """The next words of captions."""

    def __init__(self, model: GLIP):
        super().__init__()
        self.language_backbone = model.language_backbone
        self.neck = model.neck
        self.head: Any = model.caption_head

    def forward(self, read: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        """read (blocks, B, N, C), texts (B, K, n) int64, the tokens so far of K texts of each
        image -> scores of the next token (B, K, V)."""
        backbone: Any = self.language_backbone
        neck: Any = self.neck
        words = backbone.read_on(texts.flatten(0, 1), KeyValueCache())
        words = neck.read_on(words, list(read), KeyValueCache())
        logits = self.head.logits(words[:, -1], backbone.word_embedding)
        return logits.unflatten(0, texts.shape[:2])


def read_words(model: GLIP) -> str:
    """Which field of TextFeatures the neck reads: "hidden" or "embedded"."""
    neck: Any = model.neck
    return neck.reads


def export_image_path(model: GLIP) -> ExportedProgram:
    """The image path as a program for any number of images, sizes and tokens.

    Traced with the model's weights, in evaluation mode; the model is left as it was.

    Raises:
        ExportError: this PyTorch is too old.
    """
    words = torch.zeros(2, _EXAMPLE_TOKENS, model.head.bias_lang.numel())
    mask = torch.ones(2, _EXAMPLE_TOKENS, dtype=torch.bool)
    example = (_example_images(model), words, mask, *_example_causal(model))
    return export_program(ImagePath(model), example, [(0, 2, 3), (0, 1), (0, 1), (0,)])


def export_text_path(model: GLIP) -> ExportedProgram:
    """The text path as a program for any number of prompts and tokens.

    Raises:
        ExportError: this PyTorch is too old.
    """
    input_ids = torch.ones(2, _EXAMPLE_TOKENS, dtype=torch.int64)
    mask = torch.ones(2, _EXAMPLE_TOKENS, dtype=torch.bool)
    example = (input_ids, mask, *_example_causal(model))
    return export_program(TextPath(model), example, [(0, 1), (0, 1), (0,)])


def export_mask_path(model: GLIP) -> ExportedProgram:
    """The mask path as a program for any number of images, boxes, tokens and positions.

    Raises:
        ExportError: this PyTorch is too old.
    """
    path = MaskPath(model)
    words = torch.zeros(2, _EXAMPLE_TOKENS, model.head.bias_lang.numel())
    # Of every level one.
    sides = 2.0 ** torch.arange(3, 13)[:, None]
    boxes = torch.cat((torch.zeros(len(sides), 2), sides.expand(-1, 2)), dim=1)
    rows = torch.arange(len(boxes)) % 2
    tokens = torch.ones(len(boxes), _EXAMPLE_TOKENS, dtype=torch.bool)
    count, channels = len(path.head.pooler.level_poolers), model.head.bbox_pred.in_channels
    levels = [torch.zeros(2, channels, 53 - 9 * i, 59 - 9 * i) for i in range(count)]
    dynamic = [(0, 1), (0,), (0,), (0, 1), *[(0, 2, 3)] * len(levels)]
    return export_program(path, (words, boxes, rows, tokens, *levels), dynamic)


def export_answer_path(model: GLIP) -> ExportedProgram:
    """The answer path as a program for any number of questions and tokens.

    Raises:
        ExportError: this PyTorch is too old.
    """
    head: Any = model.vqa_head
    words = torch.zeros(2, _EXAMPLE_TOKENS, head.pooling.in_features)
    mask = torch.ones(2, _EXAMPLE_TOKENS, dtype=torch.bool)
    return export_program(AnswerPath(head), (words, mask), [(0, 1), (0, 1)])


def export_regions_path(model: GLIP) -> ExportedProgram:
    """The positions of images in the space of the contrast, for any number of images and sizes.

    Raises:
        ExportError: this PyTorch is too old.
    """
    return export_program(RegionsPath(model), (_example_images(model),), [(0, 2, 3)])


def export_names_path(model: GLIP) -> ExportedProgram:
    """Words in that space, for any number of prompts and tokens.

    Raises:
        ExportError: this PyTorch is too old.
    """
    contrast: Any = model.contrast
    words = torch.zeros(2, _EXAMPLE_TOKENS, contrast.word_projection.in_features)
    return export_program(NamesPath(model), (words,), [(0, 1)])


def export_reading_path(model: GLIP) -> ExportedProgram:
    """What captions read of images, as a program for any number of images and sizes.

    Raises:
        ExportError: this PyTorch is too old.
    """
    return export_program(ReadingPath(model), (_example_images(model),), [(0, 2, 3)])


def export_caption_path(model: GLIP) -> ExportedProgram:
    """The next words as a program for any number of images, positions, texts and tokens.

    Raises:
        ExportError: this PyTorch is too old.
    """
    neck: Any = model.neck
    channels = neck.blocks[0].fusion.norm_v.weight.numel()
    read = torch.zeros(len(neck.blocks), 2, 35, channels)
    texts = torch.ones(2, 3, _EXAMPLE_TOKENS, dtype=torch.int64)
    return export_program(CaptionPath(model), (read, texts), [(1, 2), (0, 1, 2)])


def _example_images(model: GLIP) -> torch.Tensor:
    return torch.zeros(2, 3, *(n * model.backbone.size_divisibility for n in _EXAMPLE_SIZE))


def _example_causal(model: GLIP) -> tuple[torch.Tensor, ...]:
    """Of a model that writes captions, one of two texts is a caption."""
    writes = getattr(model, "caption_head", None) is not None
    return (torch.tensor([True, False]),) if writes else ()

"""CLOC: contrastive localized language-image pre-training (Chen et al. 2025, arXiv 2410.02746)."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable, instantiate
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from ...config import load_model_config
from ...errors import ConfigError, DataError, PromptError, UsageError
from ...language.prompt import Prompt
from ...language.tokenized import Tokenizer
from ..backbone import ClipImageEncoder
from ..backbone.clip_visual import initialize_as_clip
from ..info_nce import info_nce
from ..precision import at_least_float32, parameter_dtype, without_autocast
from ..processes import mean_over_processes
from ..prompter import BoxHead, Prompter, RoIAlignPrompter
from ..text import ClipLanguageBackbone, TextFeatureCache
from ..vocabulary import prompts_of

__all__ = ["CLOC", "EncodedImages"]

TEXTS_KEPT = 2048  # more than LVIS has names


class EncodedImages(NamedTuple):
    """What is computed of B images once, however many regions are asked for.

    Attributes:
        tokens: of the patches, (B, N, C).
        embeddings: of the images as a whole, (B, D) of unit length.
    """

    tokens: torch.Tensor
    embeddings: torch.Tensor


class _Regions(NamedTuple):
    """R regions of a batch with their texts.

    `images`: (R,) int64, the image of each; `boxes`: (R, 4) in 0..1 of the padded square;
    `annotated`: how many images have any.
    """

    images: torch.Tensor
    boxes: torch.Tensor
    texts: list[str]
    annotated: int


@META_ARCH_REGISTRY.register()
class CLOC(nn.Module):
    """CLIP whose image encoder can be asked for regions: what is in a box, and where a text is.

    L = L_CLIP + lambda (L_CLOC + L_grounding), Eq. 4: images against captions, regions against
    their phrases, and the box that a phrase means. lambda is the share of the images of the batch
    that have boxes. The batch is that of all processes and micro-batches.

    The paper leaves open, and here it is: one temperature for both contrasts, bounded by CLIP's
    0.01; the Prompter gets the tokens after the tower's last LayerNorm; Eq. 3 is the mean squared
    error of a coordinate; an image stands at the top left of its padded square, as in Detectron2,
    whose rest is 0 after normalization; a list of names (a detection prompt) is a caption of those
    names that have a box, without any the image takes no part. The tokenizer is CLIP's (there:
    T5's); a text is read causally, and its last token is its embedding, as in CLIP.

    Args:
        visual: CLIP's image tower, with its projection into the common space of D channels.
        language_backbone: see LANGUAGE_BACKBONE_REGISTRY; its tokenizer is the model's.
        prompter: a `Prompter`, or `RoIAlignPrompter`.
        box_head: gives L_grounding; None: without.
        embed_channels: D.
        pixel_mean, pixel_std: per channel, in the order of `input_format`.
        input_format: channel order of the images, "RGB" or "BGR".
        regions_per_image: so many boxes of an image at most are learned from in a step, drawn anew.
        conflict_threshold: see `info_nce`, of regions. None: without the filter.
        temperature: at the start. min_temperature: it never falls below.
        region_batch_size: boxes that go through the prompter at once at inference.

    Raises:
        ConfigError: a box head, and a prompter that takes no texts.
    """

    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor

    @configurable
    def __init__(
        self,
        *,
        visual: ClipImageEncoder,
        language_backbone: nn.Module,
        prompter: Prompter | RoIAlignPrompter,
        box_head: BoxHead | None,
        embed_channels: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str = "RGB",
        regions_per_image: int = 4,
        conflict_threshold: float | None = 0.9,
        temperature: float = 0.07,
        min_temperature: float = 0.01,
        region_batch_size: int = 64,
    ):
        super().__init__()
        if box_head is not None and not hasattr(prompter, "of_texts"):
            raise ConfigError(
                f"model.box_head learns where a text is, and {type(prompter).__name__} takes no "
                "texts: set model.box_head=null, or take the Prompter"
            )
        self.visual = visual
        self.language_backbone = language_backbone
        text_channels: Any = language_backbone.out_channels
        self.text_projection = nn.Linear(text_channels, embed_channels, bias=False)
        self.prompter: Any = prompter
        self.box_head = box_head
        self.embed_channels = embed_channels
        self.input_format = input_format
        self.regions_per_image = regions_per_image
        self.conflict_threshold = conflict_threshold
        self.min_log_temperature = math.log(min_temperature)
        self.region_batch_size = region_batch_size
        self.log_temperature = nn.Parameter(torch.tensor([math.log(temperature)]))
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)
        self.text_cache = TextFeatureCache(language_backbone, capacity=TEXTS_KEPT)
        nn.init.normal_(self.text_projection.weight, std=text_channels**-0.5)
        if isinstance(language_backbone, ClipLanguageBackbone) and not language_backbone.pretrained:
            initialize_as_clip(language_backbone.layers)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """For yacs users: the model of the LazyConfig that MODEL.GLIP.CONFIG names."""
        node = load_model_config(cfg.MODEL.GLIP.CONFIG)
        return {str(key): instantiate(x) for key, x in node.items() if key != "_target_"}

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    @property
    def tokenizer(self) -> Tokenizer:
        backbone: Any = self.language_backbone
        return backbone.tokenizer

    def train(self, mode: bool = True) -> "CLOC":
        self.text_cache.clear()
        return super().train(mode)

    def forward(self, batched_inputs: list[dict]) -> "dict[str, torch.Tensor] | list[dict]":
        """Losses in training, embeddings otherwise; see `inference`.

        Args:
            batched_inputs: dicts with "image" (3, H, W), values 0..255, no side longer than the
                tower's; in training a "prompt", whose caption is the image's, and "instances" with
                `gt_boxes` and `gt_classes`, the phrase of each box in the prompt, or no
                "instances": a caption alone.

        Raises:
            UsageError: an image that is too large, or no inputs.
            PromptError: a training input without a caption.
            DataError: a question, from which nothing is learned here.
        """
        if not self.training:
            return self.inference(batched_inputs)
        prompts = [_training_prompt(x) for x in batched_inputs]
        regions = self._sample_regions(batched_inputs, prompts)
        said = map(_caption, batched_inputs, prompts)
        captions = {i: caption for i, caption in enumerate(said) if caption}
        images = self.encode(batched_inputs)
        caption_embeddings = self._embed_any([*captions.values()])
        phrase_embeddings = self._embed_any(regions.texts)
        region_embeddings = self.embed_boxes(images, regions.images, regions.boxes)
        with torch.no_grad():
            self.log_temperature.clamp_(min=self.min_log_temperature)
        scale = self.log_temperature.neg().exp()
        weight = self._mean(regions.annotated) / self._mean(len(batched_inputs))
        with without_autocast(self.device.type):
            image_text = info_nce(images.embeddings[[*captions]], caption_embeddings, scale)
            threshold = self.conflict_threshold
            region_text = info_nce(region_embeddings, phrase_embeddings, scale, threshold)
        losses = {"loss_image_text": image_text, "loss_region_text": weight * region_text}
        if self.box_head is not None:
            boxes = self._locate(images, regions.images, phrase_embeddings)
            error = (boxes - regions.boxes).square().mean(dim=1).sum()
            losses["loss_grounding"] = weight * error / self._mean(len(boxes), least=1e-6)
        return losses

    def inference(self, batched_inputs: list[dict]) -> list[dict[str, torch.Tensor]]:
        """The embeddings of images, and of what is asked of each.

        Args:
            batched_inputs: see `forward`; with "boxes" (n, 4) x0, y0, x1, y1, in pixels of a
                picture of "height" and "width" (default: of the image), and "texts" (K strings).

        Returns:
            Of each "image_embedding" (D,), and, where they are asked for, "region_embeddings"
            (n, D) and "text_embeddings" (K, D); all float32, of unit length.
        """
        images = self.encode(batched_inputs)
        outputs = []
        for i, x in enumerate(batched_inputs):
            output = {"image_embedding": images.embeddings[i]}
            if "boxes" in x:
                boxes = torch.as_tensor(x["boxes"], dtype=torch.float32, device=self.device)
                boxes = boxes.reshape(-1, 4) * self.scale_of(x)
                rows = torch.full((len(boxes),), i, device=self.device)
                output["region_embeddings"] = self.embed_boxes(images, rows, boxes)
            if "texts" in x:
                output["text_embeddings"] = self._embed_any(x["texts"])
            outputs.append(output)
        return outputs

    def encode(self, batched_inputs: list[dict]) -> EncodedImages:
        """B images through the tower; see `forward`."""
        tokens, embeddings = self.visual(self.preprocess_image(batched_inputs))
        return EncodedImages(tokens, _unit(embeddings))

    def preprocess_image(self, batched_inputs: list[dict]) -> torch.Tensor:
        """Normalized images, padded right and below with zeros to the tower's square."""
        if not batched_inputs:
            raise UsageError("the batch is empty: give at least one input dict")
        side, dtype = self.visual.image_size, parameter_dtype(self)
        squares = []
        for x in batched_inputs:
            height, width = x["image"].shape[-2:]
            if max(height, width) > side:
                raise UsageError(
                    f"{x.get('file_name', 'an image')} has {height}x{width} pixels, more than the "
                    f"tower's {side}: resize the long side to it (ResizeShortestEdge with "
                    f"{side} for both sizes; inference.min_size=inference.max_size={side})"
                )
            image = (x["image"].to(self.device).float() - self.pixel_mean) / self.pixel_std
            squares.append(F.pad(image.to(dtype), (0, side - width, 0, side - height)))
        return torch.stack(squares)

    def embed_boxes(
        self, images: EncodedImages, rows: torch.Tensor, boxes: torch.Tensor
    ) -> torch.Tensor:
        """The embeddings (R, D) of boxes, of unit length.

        Args:
            rows: (R,) int64, the image of each box.
            boxes: (R, 4) x0, y0, x1, y1 in 0..1 of the padded square.
        """
        size = max(len(boxes), 1) if self.training else self.region_batch_size
        parts = zip(rows.split(size), boxes.split(size))
        grid = self.visual.grid_size
        return _unit(torch.cat([self.prompter.of_boxes(images.tokens, grid, *p) for p in parts]))

    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """The embeddings (K, D) of K texts, of unit length.

        Raises:
            PromptTooLongError: a text is longer than the text tower reads.
        """
        tokens = self.tokenizer([Prompt.unwritten(text) for text in texts]).to(self.device)
        encode = self.language_backbone if self.training else self.text_cache.encode
        hidden = encode(tokens).hidden
        last = hidden[torch.arange(len(texts)), tokens.mask.sum(dim=1) - 1]
        return _unit(self.text_projection(last))

    def locate(self, images: EncodedImages, texts: Sequence[str]) -> torch.Tensor:
        """Where each of K texts is in each of B images: (B, K, 4) in 0..1 of the padded square.

        Raises:
            ConfigError: the model has no box head.
            PromptTooLongError: see `embed_texts`.
        """
        if self.box_head is None:
            raise ConfigError(
                "this model was trained without the grounding loss: it has no model.box_head, "
                "which tells where a text is"
            )
        count, embedded = len(images.tokens), self.embed_texts(texts)
        rows = torch.arange(count, device=self.device).repeat_interleave(len(texts))
        return self._locate(images, rows, embedded.repeat(count, 1)).unflatten(0, (count, -1))

    def _locate(
        self, images: EncodedImages, rows: torch.Tensor, texts: torch.Tensor
    ) -> torch.Tensor:
        assert self.box_head is not None
        prompted = self.prompter.of_texts(images.tokens, self.visual.grid_size, rows, texts)
        return at_least_float32(self.box_head(prompted))

    def _embed_any(self, texts: Sequence[str]) -> torch.Tensor:
        """`embed_texts` of any number of texts, in the graph even of none; each is read once."""
        number = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        return self.embed_texts([*number] or [""])[[number[text] for text in texts]]

    def _sample_regions(self, inputs: list[dict], prompts: list[Prompt]) -> _Regions:
        images, boxes, texts, annotated = [], [torch.empty(0, 4)], [], 0
        for i, (x, prompt) in enumerate(zip(inputs, prompts)):
            if "instances" not in x or not len(x["instances"]):
                continue
            instances, annotated = x["instances"], annotated + 1
            if len(instances) > self.regions_per_image:
                instances = instances[torch.randperm(len(instances))[: self.regions_per_image]]
            images += [i] * len(instances)
            boxes.append(instances.gt_boxes.tensor.cpu() / self.visual.image_size)
            texts += [prompt.names[k] for k in instances.gt_classes.tolist()]
        rows = torch.tensor(images, dtype=torch.int64, device=self.device)
        return _Regions(rows, torch.cat(boxes).to(self.device), texts, annotated)

    def scale_of(self, batched_input: dict) -> torch.Tensor:
        """From pixels of a picture of "height" and "width" to 0..1 of the padded square."""
        height, width = batched_input["image"].shape[-2:]
        x = width / batched_input.get("width", width) / self.visual.image_size
        y = height / batched_input.get("height", height) / self.visual.image_size
        return torch.tensor([x, y, x, y], device=self.device)

    def _mean(self, count: int, least: float = 0.0) -> torch.Tensor:
        return mean_over_processes(torch.tensor(float(count), device=self.device), least)


def _unit(embeddings: torch.Tensor) -> torch.Tensor:
    return F.normalize(at_least_float32(embeddings), dim=-1)


def _training_prompt(batched_input: dict) -> Prompt:
    image = batched_input.get("file_name", "a training image")
    if batched_input.get("prompt") is None:
        raise PromptError(
            f'{image} has no "prompt", and CLOC learns from captions: train on data sets with '
            "captions or class names through this project's GroundingDatasetMapper"
        )
    (prompt, *more) = prompts_of(batched_input, [])
    if more:
        raise PromptError(f"training takes exactly one prompt per image, {image} has several")
    if prompt.kind == "question":
        raise DataError(
            f"{image} comes with a question, and CLOC learns from captions and boxes: take the "
            "data set out of dataloader.train.datasets"
        )
    return prompt


def _caption(batched_input: dict, prompt: Prompt) -> str:
    """What is said of an image; empty: nothing."""
    if prompt.kind == "detection":
        found = (
            batched_input["instances"].gt_classes.tolist() if "instances" in batched_input else ()
        )
        return ". ".join(prompt.names[k] for k in sorted(set(found)))
    start, end = prompt.own_span or (0, len(prompt.caption))
    return prompt.caption[start:end]

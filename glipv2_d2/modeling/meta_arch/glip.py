"""GLIP: grounded language-image pre-training (Li et al. 2022) as a Detectron2 meta-architecture."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone
from detectron2.structures import ImageList
from torch import nn

from ...errors import PromptError
from ...language.positive_map import ClassMap
from ...language.prompt import Prompt
from ...language.tokenized import TokenizedPrompts
from ..boxes import to_inclusive
from ..heads import GroundingHead, GroundingOutput
from ..levels import require_fitting_levels
from ..losses import GroundingLosses, GroundingTargets
from ..mask_output import to_output_size
from ..padding import by_padded_size
from ..postprocessing import Detections, GroundingPostprocessor, classes_asked_twice
from ..text import TextFeatureCache, TextFeatures
from ..vocabulary import TrainingVocabulary
from ..weights import WEIGHTS_REGISTRY
from ..yacs import arguments_from

__all__ = ["GLIP", "Pair", "Question"]


class Pair(NamedTuple):
    """An image of a batch with one of its prompts.

    Attributes:
        image: row of the image. index: of the prompt among the image's own.
        deferred: classes that other prompts of the image ask for, too.
    """

    image: int
    index: int
    prompt: Prompt
    deferred: frozenset[int]


class Question(NamedTuple):
    """What one prompt asks about one image; see `GroundingPostprocessor.detect`."""

    class_map: ClassMap
    image_size: tuple[int, int]
    deferred: frozenset[int] = frozenset()


@META_ARCH_REGISTRY.register()
class GLIP(nn.Module):
    """Detects the phrases of a prompt in an image.

    Args:
        backbone: Detectron2 backbone that returns the pyramid, fine to coarse ("p3".."p7").
        language_backbone: see LANGUAGE_BACKBONE_REGISTRY; its tokenizer is the model's.
        neck: fuses both: `neck(levels, TextFeatures) -> (levels, words)`.
        head: `head(levels, words) -> GroundingOutput`.
        anchor_generator: Detectron2's, one anchor per position; its strides are the backbone's.
        losses, postprocessor: turn the head's output into losses or detections.
        pixel_mean, pixel_std: per channel, in the order of `input_format`.
        input_format: channel order of the images, "BGR" or "RGB".
        vocabulary: class names asked for at inference where an input carries no prompt.
        training_datasets: registered data sets whose classes `gt_classes` count where a training
            input carries no prompt; see `TrainingVocabulary`.
        chunk_size: most names in one prompt of the vocabulary; None: as many as fit the token
            limit.
        prompt_batch_size: most (image, prompt) pairs that go through the neck at once at inference;
            bounds the memory that a large vocabulary takes.
        min_score: detections that score less are left out where an input does not say itself.

    Attributes:
        mask_form: of a model with masks, see `mask_output.masks_as`.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        language_backbone: nn.Module,
        neck: nn.Module,
        head: GroundingHead,
        anchor_generator: nn.Module,
        losses: GroundingLosses,
        postprocessor: GroundingPostprocessor,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str = "BGR",
        vocabulary: Sequence[str] | None = None,
        chunk_size: int | None = None,
        prompt_batch_size: int = 8,
        training_datasets: Sequence[str] = (),
        min_score: float = 0.0,
    ):
        super().__init__()
        if head is not None:  # of an exported model it is a part of the graph
            require_fitting_levels(backbone, anchor_generator, head)
        self.backbone = backbone
        self.language_backbone = language_backbone
        self.neck = neck
        self.head = head
        self.anchor_generator = anchor_generator
        self.losses = losses
        self.postprocessor = postprocessor
        self.input_format = input_format
        self.chunk_size = chunk_size
        self.prompt_batch_size = prompt_batch_size
        self.min_score = min_score
        self.mask_form: str | None = "image"
        self.register_buffer(
            "pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False
        )
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)
        self.text_cache = TextFeatureCache(language_backbone)
        self.training_vocabulary = TrainingVocabulary(training_datasets, self.tokenizer)
        self.vocabulary_prompts: list[Prompt] = []
        if vocabulary is not None:
            self.set_vocabulary(vocabulary)
        # So that official weights come through every loader, torch's and Detectron2's too.
        convert_on_load = WEIGHTS_REGISTRY.get("convert_on_load")
        self._register_load_state_dict_pre_hook(convert_on_load, with_module=True)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """See `arguments_from`."""
        return arguments_from(cfg)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    @property
    def tokenizer(self):
        return self.language_backbone.tokenizer

    def set_vocabulary(self, names: Sequence[str]) -> None:
        """Classes to look for in inputs without a prompt; `pred_classes` index `names`."""
        self.vocabulary_prompts = self.tokenizer.split(names, size=self.chunk_size)

    def train(self, mode: bool = True) -> "GLIP":
        self.text_cache.clear()
        return super().train(mode)

    def forward(self, batched_inputs: list[dict]) -> "dict[str, torch.Tensor] | list[dict]":
        """Detectron2's contract: losses in training, `[{"instances": Instances}]` otherwise.

        What is found in an image does not depend on the others of the batch, see `by_padded_size`.

        Args:
            batched_inputs: dicts with "image" (3, H, W), values 0..255, and optionally "height" and
                "width" of the output (default: the image's own), "prompt" (a Prompt or a list of
                them; default: the vocabulary), "min_score" (detections that score less are left
                out, before their masks are computed; default: the model's); in training exactly
                one Prompt and "instances" with `gt_boxes` and `gt_classes`, the index of each box's
                phrase in the prompt, or, without a prompt, of its class in `training_datasets`.

        Raises:
            PromptError: an input has neither a prompt nor is there a vocabulary; a prompt is too
                long.
        """
        if not batched_inputs:
            raise ValueError("the batch is empty: give at least one input dict")
        if self.training:
            batched_inputs = [self.training_vocabulary.with_prompt(x) for x in batched_inputs]
        prompts = [self._prompts_of(x) for x in batched_inputs]
        if self.training:
            features = self.visual_features(self.preprocess_image(batched_inputs))
            return self._losses(batched_inputs, [p[0] for p in prompts], features)
        stride = self.backbone.size_divisibility
        return by_padded_size(self._inference, stride, batched_inputs, prompts)

    def preprocess_image(self, batched_inputs: list[dict]) -> ImageList:
        """Normalized images, padded right and below with zeros to a common size."""
        images = [x["image"].to(self.device).float() for x in batched_inputs]
        images = [(image - self.pixel_mean) / self.pixel_std for image in images]
        # The strides of P6 and P7 need no divisibility: the pyramid's last levels round up.
        return ImageList.from_tensors(images, self.backbone.size_divisibility)

    def visual_features(self, images: ImageList) -> list[torch.Tensor]:
        """Pyramid levels (B, C, h, w), fine to coarse."""
        return list(self.backbone(images.tensor).values())

    def ground(self, features: list[torch.Tensor], text: TextFeatures) -> GroundingOutput:
        """Fusion neck and head on B pairs of image and prompt."""
        return self.head(*self.neck(features, text))

    def anchors(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """Per level (h * w, 4), inclusive, pixels."""
        return [to_inclusive(boxes.tensor) for boxes in self.anchor_generator(features)]

    def _prompts_of(self, batched_input: dict) -> list[Prompt]:
        prompt = batched_input.get("prompt")
        prompt = self.vocabulary_prompts if prompt is None else prompt
        prompts = [prompt] if isinstance(prompt, (Prompt, str)) else list(prompt)
        for item in prompts:
            if not isinstance(item, Prompt):
                raise PromptError(
                    f'"prompt" takes a Prompt or a list of them, got {item!r} of type '
                    f"{type(item).__name__}: make one with Prompt.from_classes or Prompt.parse"
                )
        if not prompts:
            raise PromptError(
                'no prompt: give each input a "prompt" (a Prompt), '
                "or call model.set_vocabulary([...])"
            )
        if self.training and len(prompts) != 1:
            raise PromptError(f"training takes exactly one prompt per image, got {len(prompts)}")
        return prompts

    def _losses(
        self, batched_inputs: list[dict], prompts: list[Prompt], features: list[torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        tokens = self.tokenizer(prompts).to(self.device)
        output = self.ground(features, self.language_backbone(tokens))
        return self.losses(output, self.anchors(features), self.targets(batched_inputs, tokens))

    def targets(self, batched_inputs: list[dict], tokens: TokenizedPrompts) -> GroundingTargets:
        """The ground truth in the model's terms; `tokens`: of the inputs' prompts, unmasked."""
        instances = [x["instances"].to(self.device) for x in batched_inputs]
        return GroundingTargets(
            boxes=[to_inclusive(i.gt_boxes.tensor) for i in instances],
            tokens=[m[i.gt_classes] for m, i in zip(tokens.positive_maps, instances)],
            mask=tokens.mask,
        )

    def _inference(self, batched_inputs: list[dict], prompts: list[list[Prompt]]) -> list[dict]:
        images = self.preprocess_image(batched_inputs)
        min_scores = [x.get("min_score", self.min_score) for x in batched_inputs]
        found = self.find(self.visual_features(images), prompts, images.image_sizes, min_scores)
        results = []
        for inputs, detections, asked, size in zip(
            batched_inputs, found, prompts, images.image_sizes
        ):
            instances = self.postprocessor.to_instances(detections, asked, size)
            height, width = inputs.get("height", size[0]), inputs.get("width", size[1])
            instances = to_output_size(instances, height, width, self.mask_form)
            results.append({"instances": instances})
        return results

    def find(
        self,
        features: list[torch.Tensor],
        prompts: list[list[Prompt]],
        image_sizes: Sequence[tuple[int, int]],
        min_scores: Sequence[float],
    ) -> list[Detections]:
        """The detections of each image for all its prompts that score enough, best first.

        Args:
            features, prompts, image_sizes: see `detect`.
            min_scores: of each image.
        """
        chunks = self.detect(features, prompts, image_sizes)
        merged = [
            self.postprocessor.merge(parts, classes_asked_twice(asked))
            for parts, asked in zip(chunks, prompts)
        ]
        return [d.select(d.scores >= least) for d, least in zip(merged, min_scores)]

    def detect(
        self,
        features: list[torch.Tensor],
        prompts: list[list[Prompt]],
        image_sizes: Sequence[tuple[int, int]],
    ) -> list[list[Detections]]:
        """Boxes per image and prompt, from the pyramid of B images; `merge` joins them.

        The pyramid is computed once per image, whatever the number of its prompts.

        Args:
            features: levels (B, C, h, w). prompts: of each image, one or several.
            image_sizes: (height, width) of each image without padding.
        """
        anchors = self.anchors(features)
        detections: list[list[Detections]] = [[] for _ in prompts]
        for pairs in self.batches(prompts):
            selected, text, questions = self.ask(features, image_sizes, pairs)
            found = self.detections(self.ground(selected, text), anchors, questions)
            for pair, part in zip(pairs, found):
                detections[pair.image].append(part)
        return detections

    def batches(self, prompts: list[list[Prompt]]) -> list[list[Pair]]:
        """The pairs of images and their prompts that go through the neck together."""
        pairs = [
            Pair(image, index, prompt, deferred)
            for image, asked in enumerate(prompts)
            for deferred in [classes_asked_twice(asked)]
            for index, prompt in enumerate(asked)
        ]
        step = self.prompt_batch_size
        return [pairs[start : start + step] for start in range(0, len(pairs), step)]

    def ask(
        self,
        features: list[torch.Tensor],
        image_sizes: Sequence[tuple[int, int]],
        pairs: Sequence[Pair],
    ) -> tuple[list[torch.Tensor], TextFeatures, list[Question]]:
        """The pyramid and the text of each of these pairs, and what is asked."""
        tokens = self.tokenizer([pair.prompt for pair in pairs]).to(self.device)
        # A prompt's positive map is as wide as the batch's longest prompt, like the logits.
        questions = [
            Question(ClassMap.build(pair.prompt, words), image_sizes[pair.image], pair.deferred)
            for pair, words in zip(pairs, tokens.positive_maps)
        ]
        selected = [level[[pair.image for pair in pairs]] for level in features]
        return selected, self.text_cache.encode(tokens), questions

    def detections(
        self, output: GroundingOutput, anchors: list[torch.Tensor], questions: Sequence[Question]
    ) -> list[Detections]:
        """What the head's output says to each of its B questions."""
        lengths = output.level_lengths()
        return [
            self.postprocessor.detect(
                output.logits[row].split(lengths),
                output.deltas[row].split(lengths),
                output.centerness[row].split(lengths),
                anchors,
                *question,
            )
            for row, question in enumerate(questions)
        ]

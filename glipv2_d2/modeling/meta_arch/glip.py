"""GLIP: grounded language-image pre-training (Li et al. 2022) as a Detectron2 meta-architecture."""

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.structures import ImageList, Instances
from torch import nn
from torch.nn import functional as F

from ...errors import ConfigError, PromptError, UsageError
from ...language.prompt import Prompt
from ...language.tokenized import TokenizedPrompts, Tokenizer
from ...language.words import ClassNames
from ..boxes import to_inclusive
from ..cuda_graphs import CudaGraphs
from ..heads import (
    GroundingHead,
    GroundingOutput,
    TaskHead,
    TrainingBatch,
    TrainingPass,
    require_learnable,
)
from ..levels import require_fitting_levels
from ..losses import GroundingLosses
from ..mask_output import postprocess
from ..matcher import GroundingTargets
from ..padding import by_padded_size, pad_beside
from ..postprocessing import Detections, GroundingPostprocessor
from ..precision import parameter_dtype
from ..processes import whole_batch
from ..text import PromptEmbeddings, TextFeatureCache, TextFeatures
from ..vocabulary import TrainingVocabulary, prompts_of
from ..weights import WEIGHTS_REGISTRY
from ..yacs import arguments_from
from .inference import EncodedImages, InferencePass, outputs_of, prompts_to_ask

__all__ = ["GLIP"]

Role = TypeVar("Role", bound=TaskHead)

# With CUDA graphs prompts are padded to multiples of so many tokens.
GRAPH_TOKENS = 64


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
        cuda_graphs: most CUDA graphs kept at inference, see `CudaGraphs`; a shape of images, and of
            a batch of pairs, takes three. 0: none.
    """

    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        language_backbone: nn.Module,
        neck: nn.Module,
        head: GroundingHead,
        anchor_generator: DefaultAnchorGenerator,
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
        cuda_graphs: int = 0,
    ):
        super().__init__()
        require_fitting_levels(backbone, anchor_generator, head)
        if prompt_batch_size < 1:  # no image would be asked anything
            raise ConfigError(f"prompt_batch_size must be a number from 1, got {prompt_batch_size}")
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
        self.graphs = CudaGraphs(cuda_graphs)
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)
        self.text_cache = TextFeatureCache(language_backbone)
        self.prompt_embeddings = PromptEmbeddings()  # for tuned prompts
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
    def tokenizer(self) -> Tokenizer:
        backbone: Any = self.language_backbone
        return backbone.tokenizer

    @property
    def task_heads(self) -> dict[str, TaskHead]:
        """The heads of further tasks by their attribute; GLIP itself has none, see `GLIPv2`."""
        return {name: m for name, m in self.named_children() if isinstance(m, TaskHead)}

    def heads_of(self, role: type[Role]) -> list[Role]:
        """The task heads of one role at inference."""
        return [head for head in self.task_heads.values() if isinstance(head, role)]

    def set_vocabulary(self, names: ClassNames) -> None:
        """Classes to look for in inputs without a prompt; `pred_classes` index `names`."""
        self.vocabulary_prompts = self.tokenizer.split(names, size=self.chunk_size)

    def train(self, mode: bool = True) -> "GLIP":
        self.text_cache.clear()
        return super().train(mode)

    def forward(self, batched_inputs: list[dict]) -> "dict[str, torch.Tensor] | list[dict]":
        """Detectron2's contract: losses in training, `[{"instances": Instances}]` otherwise.

        What is found in an image does not depend on the others of the batch, see `by_padded_size`;
        which may be asked other things: to detect, a question, or for a caption. The output to a
        question has "answer" (a string) and "answers" (the best with their probabilities), that to
        `Prompt.unwritten` has "caption" and "caption_score" (the mean log-probability of its
        tokens); both have "prompt", whose phrases `pred_classes` index: in it the answer's phrase,
        where the question leaves one open, and the noun phrases of the caption. Of a presence
        head any other output has "presence" (K,), how likely each phrase is in the image.

        Args:
            batched_inputs: dicts with "image" (3, H, W), values 0..255, and optionally "height" and
                "width" of the output (default: the image's own), "prompt" (a Prompt or a list of
                them; default: the vocabulary), "min_score" (detections that score less are left
                out, before their masks are computed; default: the model's), "shortlist" (a
                `Shortlist`: of lists of names the image is asked for those that may be in it;
                default: for all), "boxes_only" (True: no task head adds anything to the boxes,
                masks for instance), "decoding" (how a caption is written; default: the caption
                head's), "phrases" (what finds its noun phrases, see `noun_phrase_extractor`;
                default: "rules"); in training exactly one Prompt and "instances" with `gt_boxes`
                and `gt_classes`, the index of each box's phrase in the prompt, or, without a
                prompt, of its class in `training_datasets`. Where the prompt is a question or a
                caption, there may be no "instances": nothing is known about boxes then; a question
                has "answers", `{answer: score in 0..1}`.

        Raises:
            PromptError: an input has neither a prompt nor is there a vocabulary; a prompt is too
                long.
            ConfigError, DataError: in training, see `require_learnable`.
            ConfigError: the model has no head for a question, or for a caption.
            UsageError: an input without an image, or no inputs.
        """
        if not self.training:
            return self.inference(batched_inputs)
        run = self.forward_training(batched_inputs)
        losses = self.grounding_losses(run)
        for head in self._heads_in_training():
            losses.update(head.losses(run))
        return losses

    def forward_training(self, batched_inputs: list[dict]) -> TrainingPass:
        """Everything that the losses are made of; see `forward` for the inputs."""
        batch = self.training_batch(batched_inputs)
        images = self.preprocess_image(batch.inputs)
        features = self.visual_features(images)
        text = self.text_features(batch.shown)
        levels, words = self.neck(features, text)
        anchors = self.anchors(features)
        targets = self.targets(batch)
        return TrainingPass(
            batch=batch,
            images=images,
            features=features,
            text=text,
            word_embedding=getattr(self.language_backbone, "word_embedding", None),
            levels=levels,
            words=words,
            output=self.head(levels, words),
            anchors=anchors,
            strides=self.anchor_generator.strides,
            targets=targets,
            matches=self.losses.match(anchors, targets),
            box_coder=self.losses.box_coder,
        )

    def inference(
        self,
        batched_inputs: list[dict],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> list:
        """Detect, merge what an image's prompts found, let the task heads refine what is left.

        Captions are written before they are grounded, questions answered beside it.

        As Detectron2's `GeneralizedRCNN.inference`.

        Args:
            batched_inputs: see `forward`.
            detected_instances: per image boxes that are known already, `pred_boxes` in pixels of
                the input's "image" and `pred_classes`: these are refined only, all their fields are
                kept. Of a class that several prompts ask for the first one's words count.
            do_postprocess: scale the boxes to "height" and "width" and paste the masks.

        Returns:
            As `forward`. Without post-processing the Instances themselves, in pixels of the inputs,
            with `pred_masks` as ROIMasks where the model has a mask head.

        Raises:
            PromptError: see `forward`; or a class of `detected_instances` is in no prompt.
        """
        outputs = self.outputs(batched_inputs, detected_instances)
        if do_postprocess:
            pairs = zip(outputs, batched_inputs)
            return [{**y, "instances": postprocess(y["instances"], x)} for y, x in pairs]
        return [output["instances"] for output in outputs]

    def outputs(
        self, batched_inputs: list[dict], detected_instances: list[Instances] | None = None
    ) -> list[dict[str, Any]]:
        """What `forward` gives, with the Instances that `inference` gives without
        post-processing."""
        prompts = prompts_to_ask(self, _checked(batched_inputs))
        inputs = [{**x, "prompt": asked} for x, asked in zip(batched_inputs, prompts)]
        known = () if detected_instances is None else (detected_instances,)

        def run(inputs: list[dict], *known: list[Instances]) -> list[dict[str, Any]]:
            return outputs_of(self, self.encode(inputs), inputs, *known)

        return by_padded_size(run, self.backbone.size_divisibility, inputs, *known)

    def encode(self, batched_inputs: list[dict]) -> EncodedImages:
        """What is computed of an image once, however often it is asked about (`outputs_of`)."""
        images = self.preprocess_image(batched_inputs)
        features = self.graphs.run(self.backbone, self._pyramid, images.tensor)
        return EncodedImages(features, images.image_sizes)

    def detect(self, images: EncodedImages, prompts: list[list[Prompt]]) -> list[Detections]:
        """The detections of each image for all its prompts, best first, whatever they score."""
        return InferencePass(self, images, prompts).detect()

    def preprocess_image(self, batched_inputs: list[dict]) -> ImageList:
        """Normalized images, padded right and below with zeros to a common size.

        It is that of the whole batch, where this is a micro-batch: the losses count padding, too.
        """
        dtype = parameter_dtype(self)
        digits = torch.promote_types(dtype, torch.float32)
        images = [x["image"].to(self.device).to(digits) for x in batched_inputs]
        images = [((image - self.pixel_mean) / self.pixel_std).to(dtype) for image in images]
        # The strides of P6 and P7 need no divisibility: the pyramid's last levels round up.
        padded = ImageList.from_tensors(images, self.backbone.size_divisibility)
        return pad_beside(padded, whole_batch(batched_inputs), self.backbone.size_divisibility)

    def visual_features(self, images: ImageList) -> list[torch.Tensor]:
        """Pyramid levels (B, C, h, w), fine to coarse."""
        return self._pyramid(images.tensor)

    def level_sizes(self, features: list[torch.Tensor]) -> list[tuple[int, int]]:
        """Rows and columns of the levels of `visual_features`."""
        return [(level.shape[2], level.shape[3]) for level in features]

    def _pyramid(self, images: torch.Tensor) -> list[torch.Tensor]:
        return list(self.backbone(images).values())

    def text_features(self, tokens: TokenizedPrompts) -> TextFeatures:
        """The words of prompts before fusion, those of tuned prompts with what was learned."""
        encode = self.language_backbone if self.training else self.text_cache.encode
        text = self.prompt_embeddings(encode(tokens), tokens.embedding_ids)
        return text.with_exemplars(tokens)

    def fuse(
        self, features: list[torch.Tensor], text: TextFeatures
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """The fusion neck at inference, on B pairs of image and prompt."""
        plain = text.causal is None and text.seen_by_image is None
        if not (plain and self.graphs.usable(self.neck, self.device)):
            return self.neck(features, text)
        # Few lengths, so that few graphs serve all prompts; what is masked changes no result.
        length = text.mask.shape[1]
        more = -length % GRAPH_TOKENS
        hidden, embedded = (F.pad(x, (0, 0, 0, more)) for x in (text.hidden, text.embedded))

        def run(hidden, embedded, mask, *features):
            levels, words = self.neck(list(features), TextFeatures(hidden, embedded, mask))
            return [words, *levels]

        inputs = hidden, embedded, F.pad(text.mask, (0, more)), *features
        words, *levels = self.graphs.run(self.neck, run, *inputs)
        return levels, words[:, :length]

    def predict(self, levels: list[torch.Tensor], words: torch.Tensor) -> GroundingOutput:
        """The grounding head at inference, on what `fuse` gives."""

        def run(words, *levels):
            return self.head(levels, words)[:3]

        if not self.graphs.usable(self.head, self.device):
            return self.head(levels, words)
        length = words.shape[1]
        words = F.pad(words, (0, 0, 0, -length % GRAPH_TOKENS))
        logits, deltas, centerness = self.graphs.run(self.head, run, words, *levels)
        sizes = [(f.shape[-2], f.shape[-1]) for f in levels]
        return GroundingOutput(logits[..., :length], deltas, centerness, sizes)

    def ground(self, features: list[torch.Tensor], text: TextFeatures) -> GroundingOutput:
        """Fusion neck and head on B pairs of image and prompt."""
        return self.head(*self.neck(features, text))

    def anchors(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """Per level (h * w, 4), inclusive, pixels."""
        return [to_inclusive(boxes.tensor) for boxes in self.anchor_generator(features)]

    def targets(self, batch: TrainingBatch) -> GroundingTargets:
        """The ground truth in the model's terms."""
        boxes = [x["instances"].gt_boxes.tensor.to(self.device) for x in batch.inputs]
        return GroundingTargets(
            boxes=[to_inclusive(b) for b in boxes],
            tokens=[m[phrases] for m, phrases in zip(batch.tokens.positive_maps, batch.gt_phrases)],
            mask=batch.tokens.mask & batch.grounded[:, None],
            regressed=torch.tensor(
                [x.get("regression", True) for x in batch.inputs], device=self.device
            ),
        )

    def grounding_losses(self, run: TrainingPass) -> dict[str, torch.Tensor]:
        """GLIP's own losses; none where all that they train is frozen (a mask head's training)."""
        encoders = self.backbone, self.language_backbone, self.prompt_embeddings
        if not _is_trained(*encoders, self.neck, self.head):
            return {}
        return self.losses(run.output, run.anchors, run.targets, run.matches)

    def training_batch(self, batched_inputs: list[dict]) -> TrainingBatch:
        """The inputs with their prompts, and what the language backbone is shown of these."""
        inputs = [self.training_vocabulary.with_prompt(x) for x in _checked(batched_inputs)]
        prompts = []
        for x in inputs:
            (prompt, *more) = prompts_of(x, self.vocabulary_prompts)
            if more:
                raise PromptError(
                    f"training takes exactly one prompt per image, got {1 + len(more)}"
                )
            prompts.append(prompt)
        require_learnable(inputs, prompts, self.task_heads)
        batch = TrainingBatch.of(inputs, prompts, self.tokenizer(prompts).to(self.device))
        for head in self._heads_in_training():
            batch = head.prepare_text(batch, self.tokenizer)
        return batch

    def _heads_in_training(self) -> list[TaskHead]:
        """The task heads but those that are frozen: these have no loss, and change no text."""
        return [head for head in self.task_heads.values() if _is_trained(head)]


def _checked(batched_inputs: list[dict]) -> list[dict]:
    """The batch itself, which has an input and in each an image."""
    if not batched_inputs:
        raise UsageError("the batch is empty: give at least one input dict")
    for i, x in enumerate(batched_inputs):
        if "image" not in x:
            raise UsageError(
                f'input {i} of the batch has no "image": whatever is asked, a question too, is '
                "asked about one"
            )
    return batched_inputs


def _is_trained(*modules: nn.Module) -> bool:
    """Whether any of these has something to train; without parameters there is nothing frozen."""
    parameters = [p for module in modules for p in module.parameters()]
    return not parameters or any(p.requires_grad for p in parameters)

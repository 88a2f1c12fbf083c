"""GLIPv2 (Zhang et al. 2022): GLIP with the three pre-training losses and the mask head."""

from collections.abc import Sequence

import torch
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import ImageList, Instances

from ...errors import ConfigError
from ...language.prompt import Prompt
from ..boxes import to_continuous, to_inclusive
from ..contrast import ContrastTargets, RegionWordContrast
from ..contrast_targets import positions_inside
from ..heads import (
    GroundingOutput,
    LanguageMaskHead,
    MaskedLanguageHead,
    MaskTargets,
    bit_masks,
)
from ..losses import GroundingTargets
from ..matcher import Matches
from ..padding import by_padded_size
from ..postprocessing import Detections, classes_asked_twice, split
from .glip import GLIP, Question

__all__ = ["GLIPv2"]

# What boxes and their phrases depend on.
GROUNDING_PARTS = ("backbone", "language_backbone", "neck", "head")


@META_ARCH_REGISTRY.register()
class GLIPv2(GLIP):
    """GLIP, and what the paper adds to it; every addition may be left out.

    L_GLIPv2 = L_loc + L_intra + L_inter + L_mlm (Eq. 2): the first two are GLIP's own losses.

    Args:
        contrast: L_inter, the inter-image region-word contrastive loss (Eq. 4-5); None: without.
        mlm_head: L_mlm, masked language modeling on the fused words (Section 3.1); None: without.
        mask_head: language-guided masks of the boxes found (Section 3.1, Appendix D.1), which are
            the same with and without it; in training "instances" have `gt_masks` (BitMasks). None:
            boxes only.
        trained_parts: names of the only parts that are trained ("mask_head": the second stage of
            Section 3.2). The others are frozen and stay in evaluation mode, and only the losses of
            the named parts are computed. None: everything.
        glip: the arguments of `GLIP`.
    """

    @configurable
    def __init__(
        self,
        *,
        contrast: RegionWordContrast | None = None,
        mlm_head: MaskedLanguageHead | None = None,
        mask_head: LanguageMaskHead | None = None,
        trained_parts: Sequence[str] | None = None,
        **glip,
    ):
        super().__init__(**glip)
        self.contrast = contrast
        self.mlm_head = mlm_head
        self.mask_head = mask_head
        self.trained_parts = _part_names(trained_parts)
        self._check_parts()
        if self.trained_parts is not None:
            for part in self._untrained():
                part.requires_grad_(False)

    def _check_parts(self) -> None:
        if self.mlm_head is not None:
            self._check_vocabulary()
        # Those with parameters: `losses` and the anchor generator have nothing to train.
        parts = dict.fromkeys(name.split(".")[0] for name, _ in self.named_parameters())
        for name in self.trained_parts or ():
            if name not in parts:
                raise ConfigError(
                    f"model.trained_parts names {name!r}, but the model has no such part: it has "
                    f"{', '.join(parts)}"
                )

    def _check_vocabulary(self) -> None:
        tokenizer, known = self.tokenizer, self.mlm_head.vocabulary_size
        if tokenizer.mask_token_id is None:
            raise ConfigError(
                "masked language modeling needs a mask token, and the tokenizer of the language "
                "backbone has none: set model.mlm_head to None, or, of a ClipLanguageBackbone, "
                "mask_token_id to an entry of its vocabulary that no text uses (49404)"
            )
        if known != len(tokenizer.tokenizer):
            raise ConfigError(
                f"model.mlm_head.vocabulary_size is {known}, and the tokenizer of the language "
                f"backbone has {len(tokenizer.tokenizer)} entries: set it to that"
            )

    def _trains(self, *parts: str) -> bool:
        return self.trained_parts is None or any(part in self.trained_parts for part in parts)

    def _gradients(self, *parts: str) -> torch.set_grad_enabled:
        """Context without gradients where none of these parts is trained.

        Frozen parameters need none in any case; but layers take their faster and leaner form
        (modeling/blocks.py) only where gradients are off.
        """
        return torch.set_grad_enabled(torch.is_grad_enabled() and self._trains(*parts))

    def _untrained(self) -> list[torch.nn.Module]:
        return [part for name, part in self.named_children() if name not in self.trained_parts]

    def train(self, mode: bool = True) -> "GLIPv2":
        super().train(mode)
        if self.trained_parts is not None:
            for part in self._untrained():
                part.eval()  # no dropout, no new statistics
        return self

    def visual_features(self, images: ImageList) -> list[torch.Tensor]:
        """See `GLIP.visual_features`."""
        with self._gradients("backbone"):
            return super().visual_features(images)

    def _losses(
        self, batched_inputs: list[dict], prompts: list[Prompt], features: list[torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        tokens = self.tokenizer(prompts).to(self.device)
        gt_phrases = [x["instances"].gt_classes.to(self.device) for x in batched_inputs]
        shown, labels = tokens, None
        if self.mlm_head is not None and self._trains("mlm_head"):
            # What is a phrase's word stays so when it is masked: only the tokens shown change.
            shown, labels = self.mlm_head.mask(
                tokens, prompts, gt_phrases, self.tokenizer.mask_token_id
            )
        with self._gradients(*GROUNDING_PARTS):
            text = self.language_backbone(shown)
            levels, words = self.neck(features, text)
            output = self.head(levels, words)
        anchors = self.anchors(features)
        targets = self.targets(batched_inputs, tokens)
        matches = self.losses.match(anchors, targets)
        losses = {}
        if self._trains(*GROUNDING_PARTS):
            losses.update(self.losses(output, anchors, targets, matches))
        if self.contrast is not None and self._trains("contrast"):
            visible = tokens.mask if labels is None else tokens.mask & (labels < 0)
            inside = self._positions_inside(batched_inputs, features)
            contrast = ContrastTargets(
                prompts, tokens.positive_maps, gt_phrases, matches.index, visible, inside
            )
            losses["loss_contrast"] = self.contrast(features, text, contrast)
        if self.mlm_head is not None and self._trains("mlm_head"):
            losses["loss_mlm"] = self.mlm_head(words, labels)
        if self.mask_head is not None and self._trains("mask_head"):
            masks = self._mask_targets(batched_inputs, targets, output, anchors, matches)
            losses["loss_mask"] = self.mask_head(levels, words, masks)
        return losses

    def _positions_inside(
        self, batched_inputs: list[dict], features: list[torch.Tensor]
    ) -> torch.Tensor:
        return positions_inside(
            [tuple(x["image"].shape[-2:]) for x in batched_inputs],
            [tuple(level.shape[-2:]) for level in features],
            self.anchor_generator.strides,
            self.device,
        )

    def _mask_targets(
        self,
        batched_inputs: list[dict],
        targets: GroundingTargets,
        output: GroundingOutput,
        anchors: list[torch.Tensor],
        matches: Matches,
    ) -> MaskTargets:
        all_anchors = torch.cat(anchors)
        positive = [index >= 0 for index in matches.index]
        decode = self.losses.box_coder.decode
        predicted = [
            to_continuous(decode(deltas[rows], all_anchors[rows]))
            for deltas, rows in zip(output.deltas.detach(), positive)
        ]
        return MaskTargets(
            boxes=[to_continuous(boxes) for boxes in targets.boxes],
            masks=[bit_masks(x, self.device) for x in batched_inputs],
            tokens=targets.tokens,
            predicted=predicted,
            matched=[index[rows] for index, rows in zip(matches.index, positive)],
        )

    def find(
        self,
        features: list[torch.Tensor],
        prompts: list[list[Prompt]],
        image_sizes: Sequence[tuple[int, int]],
        min_scores: Sequence[float],
    ) -> list[Detections]:
        """As `GLIP.find`, with masks where there is a mask head and `mask_form` asks for them.

        A mask is computed when it is certain that its box stays: at once where one prompt asks for
        the class, after the NMS of all prompts' candidates, a thousand a level, where several do.
        """
        if self.mask_head is None or self.mask_form is None:
            return super().find(features, prompts, image_sizes, min_scores)
        anchors, batches = self.anchors(features), self.batches(prompts)
        certain: list[list[Detections]] = [[] for _ in prompts]
        rivals: list[list[Detections]] = [[] for _ in prompts]
        for pairs in batches:
            selected, text, questions = self.ask(features, image_sizes, pairs)
            fused = self.neck(selected, text)
            found = self.detections(self.head(*fused), anchors, questions)
            parts = [split(d, question.deferred) for d, question in zip(found, questions)]
            own = [d.select(d.scores >= min_scores[p.image]) for p, (d, _) in zip(pairs, parts)]
            masked = self._masked(fused, questions, own)
            for pair, own, (_, others) in zip(pairs, masked, parts):
                certain[pair.image].append(own)
                of_prompt = torch.full_like(others.classes, pair.index)
                rivals[pair.image].append(others._replace(prompt=of_prompt))
        merge = self.postprocessor.merge
        winners = [merge(r, classes_asked_twice(asked)) for r, asked in zip(rivals, prompts)]
        winners = [d.select(d.scores >= least) for d, least in zip(winners, min_scores)]
        held = fused if len(batches) == 1 else None
        winners = self._masked_by_prompt(winners, features, image_sizes, batches, held)
        return [merge([*own, others]) for own, others in zip(certain, winners)]

    @torch.no_grad()
    def masks_of(
        self, batched_inputs: list[dict], detected: Sequence[Instances]
    ) -> list[torch.Tensor]:
        """Masks of boxes that are known already, as `GeneralizedRCNN.inference` has them.

        Args:
            batched_inputs: see `forward`.
            detected: per image, with `pred_boxes` in pixels of the input's "image" and
                `pred_classes`; of a class that several prompts ask for the first one's words count.

        Returns:
            Per image (n, S, S), probabilities, stretched over the boxes.

        Raises:
            ValueError: the model has no mask head.
        """
        if self.mask_head is None:
            raise ValueError("the model has no mask head: there are no masks of these boxes")
        stride = self.backbone.size_divisibility
        return by_padded_size(self._masks_of, stride, batched_inputs, detected)

    def _masks_of(self, batched_inputs, detected) -> list[torch.Tensor]:
        prompts = [self._prompts_of(x) for x in batched_inputs]
        images = self.preprocess_image(batched_inputs)
        features = self.visual_features(images)
        found = [
            Detections(
                boxes=to_inclusive(instances.pred_boxes.tensor),
                scores=torch.ones_like(instances.pred_classes),
                classes=instances.pred_classes,
                prompt=_first_to_ask(asked, instances.pred_classes),
            )
            for instances, asked in zip(detected, prompts)
        ]
        batches = self.batches(prompts)
        masked = self._masked_by_prompt(found, features, images.image_sizes, batches)
        return [detections.masks for detections in masked]

    def _masked_by_prompt(
        self, found, features, image_sizes, batches, held=None
    ) -> list[Detections]:
        """What was `found` in each image with masks by the prompts that found it.

        The neck runs again for these prompts, or else what it makes of every prompt of a large
        vocabulary would have to be kept; `held` is that of a single batch.
        """
        size = self.mask_head.mask_size
        masks = [d.boxes.new_zeros(len(d.boxes), size, size) for d in found]
        for pairs in batches:
            rows = [found[p.image].prompt == p.index for p in pairs]
            if not any(r.any() for r in rows):
                continue
            selected, text, questions = self.ask(features, image_sizes, pairs)
            fused = held or self.neck(selected, text)
            of_pairs = [found[p.image].select(r) for p, r in zip(pairs, rows)]
            for p, r, part in zip(pairs, rows, self._masked(fused, questions, of_pairs)):
                masks[p.image][r] = part.masks
        return [d._replace(masks=m, prompt=None) for d, m in zip(found, masks)]

    def _masked(
        self,
        fused: tuple[list[torch.Tensor], torch.Tensor],
        questions: Sequence[Question],
        found: Sequence[Detections],
    ) -> list[Detections]:
        """The detections of B pairs of image and prompt with masks; `fused`: the neck's output."""
        masks = self.mask_head.predict(
            *fused,
            [to_continuous(detections.boxes) for detections in found],
            [q.class_map.tokens_of(d.classes) for q, d in zip(questions, found)],
        )
        return [detections._replace(masks=m) for detections, m in zip(found, masks)]


def _part_names(trained_parts: Sequence[str] | None) -> tuple[str, ...] | None:
    if trained_parts is None:
        return None
    if isinstance(trained_parts, str) or not trained_parts:
        raise ConfigError(
            f'model.trained_parts is a list of parts, ["mask_head"] for instance, or None for all '
            f"of them; got {trained_parts!r}"
        )
    return tuple(trained_parts)


def _first_to_ask(prompts: Sequence[Prompt], classes: torch.Tensor) -> torch.Tensor:
    """(n,) int64, for each of these class ids the first of an image's prompts that asks for it."""
    first = {i: p for p, prompt in reversed(list(enumerate(prompts))) for i in prompt.class_ids}
    return classes.new_tensor([first[i] for i in classes.tolist()])

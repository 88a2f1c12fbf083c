"""What GLIP does with images that are encoded and the prompts that they are asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from detectron2.structures import Instances

from ...errors import ConfigError, PromptError
from ...language.prompt import TASKS, Prompt
from ...language.prompt_text import read_caption
from ..exemplar_scores import ExemplarScores
from ..heads import AnsweringHead, GroundingOutput, RefiningHead, TaskHead, WritingHead
from ..heads.presence import PresenceHead
from ..postprocessing import Asked, ClassMap, Detections, deferred_classes
from ..shortlist import require_shortlist, shortlisted
from ..vocabulary import prompts_of

if TYPE_CHECKING:
    from ..generation import Decoding, Written
    from .glip import GLIP

__all__ = ["EncodedImages", "InferencePass", "groups_of_images", "outputs_of", "prompts_to_ask"]

# Pairs of image and prompt whose fused features are kept until the detections are refined: at
# 800 x 1333 pixels 23 MB each. LVIS has 31 prompts. Beyond that the neck runs once more for the
# prompts that found something.
PAIRS_KEPT = 32


class EncodedImages(NamedTuple):
    """B images of one padded size, ready to be asked about.

    Attributes:
        features: levels of the pyramid, (B, C, h, w), fine to coarse.
        sizes: (height, width) of each image without padding.
    """

    features: list[torch.Tensor]
    sizes: list[tuple[int, int]]

    def select(self, images: slice) -> EncodedImages:
        """Some of the images, without a copy."""
        return EncodedImages([level[images] for level in self.features], self.sizes[images])

    def split(self) -> list[EncodedImages]:
        """Each image alone, in memory of its own, so that one does not keep all in it."""
        levels = [level.split(1) for level in self.features]
        alone = len(self.sizes) == 1
        return [
            EncodedImages([x if alone else x.clone() for x in of_image], [size])
            for size, *of_image in zip(self.sizes, *levels)
        ]


class Pair(NamedTuple):
    """An image with one of its prompts, `prompt_index` among the image's own."""

    image: int
    prompt_index: int
    prompt: Prompt


class Fused(NamedTuple):
    """What the neck makes of some pairs: levels (B, C, h, w) and words (B, T, L).

    Attributes:
        mask: (B, T), the padding mask.
        class_maps: of each pair's prompt.
    """

    levels: list[torch.Tensor]
    words: torch.Tensor
    mask: torch.Tensor
    class_maps: list[ClassMap]


class InferencePass:
    """One call of GLIP at inference: what is computed for it lives here, nothing on the model.

    Args:
        model: in evaluation mode.
        images: B images.
        prompts: of each image, one or several.
        refining: heads that add to the detections.
        answering: heads that answer questions; the first of them is asked.

    Attributes:
        presence: of each image that `detect` looked at and each of its prompts (K,), how likely its
            phrases are there; nothing for a model without a presence head.
    """

    def __init__(
        self,
        model: GLIP,
        images: EncodedImages,
        prompts: list[list[Prompt]],
        refining: Sequence[RefiningHead] = (),
        answering: Sequence[AnsweringHead] = (),
    ):
        self.model = model
        self.images = images
        self.prompts = list(prompts)
        self.refining = refining
        self.answering = answering
        pairs = [Pair(i, k, p) for i, asked in enumerate(prompts) for k, p in enumerate(asked)]
        step = model.prompt_batch_size
        self.batches = [pairs[start : start + step] for start in range(0, len(pairs), step)]
        self._kept: dict[int, Fused] = {}
        self.presence: list[list[torch.Tensor]] = [[] for _ in prompts]

    def answer(self) -> list[dict[str, Any]]:
        """Of each image "answer", "answers" and "prompt" (see `GLIP.forward`); {} where it is asked
        no question."""
        told: list[dict[str, Any]] = [{} for _ in self.prompts]
        for number, pairs in enumerate(self.batches):
            rows = [row for row, pair in enumerate(pairs) if pair.prompt.kind == "question"]
            if not rows:
                continue
            fused = self._fuse(number)
            answers = self.answering[0].answer(fused.words[rows], fused.mask[rows])
            for row, best in zip(rows, answers):
                image, _, question = pairs[row]
                prompt = _with_answer(question, best[0][0])
                self.prompts[image] = [prompt]  # it names the detections
                told[image] = {"answer": best[0][0], "answers": best, "prompt": prompt}
        return told

    def detect(self) -> list[Detections]:
        """The detections of each image for all its prompts together, best first."""
        model, sizes = self.model, self.images.sizes
        anchors = model.anchors(self.images.features)
        exemplars = ExemplarScores(model, self.images)
        deferred = [deferred_classes(asked) for asked in self.prompts]
        parts: list[list[Detections]] = [[] for _ in self.prompts]
        for number, pairs in enumerate(self.batches):
            fused = self._fuse(number)
            output = model.predict(fused.levels, fused.words)
            output = exemplars.apply(output, pairs, fused.class_maps)
            class_maps = self._weighed(pairs, fused, output)
            asked = [
                Asked(class_map, sizes[p.image], p.prompt_index, deferred[p.image])
                for p, class_map in zip(pairs, class_maps)
            ]
            outputs = output.logits, output.deltas, output.centerness
            for pair, found in zip(pairs, model.postprocessor.detect(*outputs, anchors, asked)):
                parts[pair.image].append(found)
        return [model.postprocessor.merge(*of_image) for of_image in zip(parts, deferred)]

    def _weighed(self, pairs: list[Pair], fused: Fused, output: GroundingOutput) -> list[ClassMap]:
        """The class maps of some pairs, with the presence of each phrase as a factor."""
        maps = list(fused.class_maps)
        for head in self.model.heads_of(PresenceHead):
            for row, presence in enumerate(head.presence(fused.words, output.logits, maps)):
                if pairs[row].prompt.kind not in TASKS:
                    self.presence[pairs[row].image].append(presence)
                    maps[row] = maps[row].weighed(presence) if head.weighs_boxes else maps[row]
        return maps

    def found(self, min_scores: Sequence[float]) -> list[Instances]:
        """`detect` as Instances with `prompt_index`, without what scores less than `min_scores`."""
        results = []
        for detections, prompts, size, least in zip(
            self.detect(), self.prompts, self.images.sizes, min_scores
        ):
            detections = detections.select(detections.scores >= least)
            instances = self.model.postprocessor.to_instances(detections, prompts, size)
            instances.prompt_index = detections.prompt_index
            results.append(instances)
        return results

    def known(self, detected_instances: Sequence[Instances]) -> list[Instances]:
        """Boxes that are known already, `prompt_index` of the first prompt that asks for a class.

        Raises:
            PromptError: no prompt of the image asks for a class.
        """
        results = [instances.to(self.model.device) for instances in detected_instances]
        for instances, prompts in zip(results, self.prompts):
            instances.prompt_index = _first_to_ask(prompts, instances.pred_classes)
        return results

    def refine(self, found: list[Instances]) -> list[Instances]:
        """The detections of each image with what the heads add to them, without `prompt_index`."""
        boxes = [x.pred_boxes.tensor for x in found]
        added = [[b.new_zeros(len(b), *h.refined_shape) for b in boxes] for h in self.refining]
        for number, pairs in enumerate(self.batches if self.refining else ()):
            rows = [found[p.image].prompt_index == p.prompt_index for p in pairs]
            if not any(r.any() for r in rows):
                continue
            fused = self._fuse(number)
            own_boxes = [boxes[p.image][r] for p, r in zip(pairs, rows)]
            classes = [found[p.image].pred_classes[r] for p, r in zip(pairs, rows)]
            tokens = [of.tokens_of(c) for of, c in zip(fused.class_maps, classes)]
            for head, of_images in zip(self.refining, added):
                refined = head.refine(fused.levels, fused.words, own_boxes, tokens)
                for pair, r, of_pair in zip(pairs, rows, refined):
                    of_images[pair.image][r] = of_pair.to(boxes[pair.image].dtype)
        for i, instances in enumerate(found):
            instances.remove("prompt_index")
            for head, of_images in zip(self.refining, added):
                head.attach(instances, of_images[i])
        return found

    def _fuse(self, number: int) -> Fused:
        """The neck's output for a batch of pairs."""
        if number in self._kept:
            return self._kept[number]
        model, pairs = self.model, self.batches[number]
        tokens = model.tokenizer([pair.prompt for pair in pairs]).to(model.device)
        # A prompt's positive map is as wide as the batch's longest prompt, like the logits.
        # Mostly the images of a batch are asked the same.
        asked = dict(zip((pair.prompt for pair in pairs), tokens.positive_maps))
        built = {prompt: ClassMap.build(prompt, m) for prompt, m in asked.items()}
        class_maps = [built[pair.prompt] for pair in pairs]
        selected = [level[[pair.image for pair in pairs]] for level in self.images.features]
        levels, words = model.fuse(selected, model.text_features(tokens))
        fused = Fused(levels, words, tokens.mask, class_maps)
        read_again = self.refining or self.answering
        if read_again and (number == 0 or (number + 1) * len(pairs) <= PAIRS_KEPT):
            self._kept[number] = fused
        return fused


def prompts_to_ask(model: GLIP, batched_inputs: Sequence[dict]) -> list[list[Prompt]]:
    """The prompts of each input, all of which the model can answer.

    Raises:
        PromptError: see `prompts_of`; a question or a caption to be written is not alone; or a name
            is pinned and not asked.
        ConfigError: the model has no head for it, or no contrast for a shortlist.
    """
    asked = [prompts_of(x, model.vocabulary_prompts) for x in batched_inputs]
    for x, prompts in zip(batched_inputs, asked):
        if x.get("shortlist"):
            require_shortlist(model, x["shortlist"], prompts)
    role: type[TaskHead]
    for prompts in asked:
        for prompt in prompts:
            if prompt.kind == "question":
                what, role, setting = "a question is answered", AnsweringHead, "vqa_head"
            elif prompt.is_unwritten:
                what, role, setting = "a caption is written", WritingHead, "caption_head"
            else:
                continue
            if not model.heads_of(role):
                raise ConfigError(
                    f"{what} by a model with model.{setting}, and this model has none: take a "
                    "config that has it, with weights that were trained with it"
                )
            if len(prompts) > 1:
                raise PromptError(f"{what} alone, not as one of an image's {len(prompts)} prompts")
    return asked


def outputs_of(
    model: GLIP,
    images: EncodedImages,
    batched_inputs: list[dict],
    detected_instances: list[Instances] | None = None,
) -> list[dict[str, Any]]:
    """`GLIP.outputs` of encoded images.

    Args:
        images: B images of one padded size.
        batched_inputs: of each; all but "image" is read.
        detected_instances: see `GLIP.inference`.
    """
    prompts = prompts_to_ask(model, batched_inputs)
    written = _write(model, images, batched_inputs, prompts)
    for i, caption in written.items():
        finder = batched_inputs[i].get("phrases", "rules")
        prompts[i] = [read_caption(caption.caption, finder)]
    if any(x.get("shortlist") for x in batched_inputs):
        known = [x.pred_classes.tolist() for x in detected_instances or ()]
        prompts = shortlisted(
            model, images, prompts, [x.get("shortlist") for x in batched_inputs], known
        )
    refining, answering = model.heads_of(RefiningHead), model.heads_of(AnsweringHead)
    outputs: list[dict[str, Any]] = []
    for group in groups_of_images(batched_inputs, prompts, model.prompt_batch_size):
        inputs = batched_inputs[group]
        heads = () if inputs[0].get("boxes_only") else refining
        run = InferencePass(model, images.select(group), prompts[group], heads, answering)
        answers = run.answer()
        if detected_instances is None:
            found = run.found([x.get("min_score", model.min_score) for x in inputs])
        else:
            found = run.known(detected_instances[group])
        present = [{"presence": torch.cat(p)} if p else {} for p in run.presence]
        parts = zip(run.refine(found), answers, present)
        outputs += [{"instances": x, **told, **there} for x, told, there in parts]
    for i, caption in written.items():
        outputs[i]["caption"], outputs[i]["caption_score"] = caption
        outputs[i]["prompt"] = prompts[i][0]
    return outputs


def _write(
    model: GLIP, images: EncodedImages, batched_inputs: list[dict], prompts: list[list[Prompt]]
) -> dict[int, Written]:
    """The captions that are to be written, by the index of their image."""
    to_write = [i for i, (prompt, *_) in enumerate(prompts) if prompt.is_unwritten]
    if not to_write:
        return {}
    head = model.heads_of(WritingHead)[0]
    rows: dict[Decoding, list[int]] = {}
    for i in to_write:
        rows.setdefault(batched_inputs[i].get("decoding", head.decoding), []).append(i)
    written: dict[int, Written] = {}
    step = model.prompt_batch_size
    for decoding, of_decoding in rows.items():
        for start in range(0, len(of_decoding), step):
            batch = of_decoding[start : start + step]
            features = [level[batch] for level in images.features]
            captions = head.write(model, features, [prompts[i][0] for i in batch], decoding)
            written.update(zip(batch, captions, strict=True))
    return written


def groups_of_images(
    batched_inputs: list[dict], prompts: list[list[Prompt]], prompt_batch_size: int
) -> list[slice]:
    """Which of a batch's images are answered in one `InferencePass`.

    As many as have `prompt_batch_size` prompts in all, or one image with more: so what is kept for
    refining belongs to few images. All are to be refined, or none ("boxes_only").
    """
    groups: list[slice] = []
    pairs, before = 0, False
    for i, (x, asked) in enumerate(zip(batched_inputs, prompts)):
        boxes_only = bool(x.get("boxes_only"))
        if groups and boxes_only == before and pairs + len(asked) <= prompt_batch_size:
            groups[-1] = slice(groups[-1].start, i + 1)
            pairs += len(asked)
        else:
            groups.append(slice(i, i + 1))
            pairs, before = len(asked), boxes_only
    return groups


def _with_answer(question: Prompt, answer: str) -> Prompt:
    """The question with the phrase of its open answer, if there is one, named by the answer."""
    open_phrase = (question.answer_span,)
    names = [answer if s == open_phrase else n for n, s in zip(question.names, question.spans)]
    return replace(question, names=tuple(names))


def _first_to_ask(prompts: Sequence[Prompt], classes: torch.Tensor) -> torch.Tensor:
    """(n,) int64, for each of these class ids the first of an image's prompts that asks for it."""
    first = {i: p for p, prompt in reversed(list(enumerate(prompts))) for i in prompt.class_ids}
    unknown = sorted(set(classes.tolist()) - set(first))
    if unknown:
        raise PromptError(
            f"detected_instances have the class {unknown[0]}, which no prompt of the image asks "
            "for: give the prompts that they were found with"
        )
    return classes.new_tensor([first[i] for i in classes.tolist()])

"""The one mapper: detection is grounding with a caption that is made up."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from detectron2.data import transforms as T

from ...errors import DataError, PromptError
from ...language.class_names import detection_classes
from ...language.negatives import (
    DROPPED_POSITIVES,
    DetectionPromptSampler,
    absent_class_ids,
    surround_with_captions,
)
from ...language.prompt import SEPARATOR, Prompt, names_direction
from ...language.tokenized import Tokenizer
from ..images import check_image_size, read_record_image
from ..reader import CaptionPool, has_captions
from ..report import Record, Report
from .captions import (
    CaptionSample,
    cut_to_fit,
    evaluation_prompt,
    grounding_sample,
    moved_spans,
    with_tokens,
)
from .instances import make_instances
from .vocabulary import VocabularyPrompts, class_names

DROPPED_PHRASES = "boxes dropped because their phrase lies behind the token limit"
DROPPED_TOKENLESS = "boxes dropped because the tokenizer leaves nothing of their phrase"
DROPPED_CROWDS = "crowd boxes dropped"
DROPPED_EMPTY = "boxes dropped because augmentation left nothing of them"
CUT = "captions and questions cut between two words at the token limit"
DROPPED = (
    DROPPED_POSITIVES, DROPPED_PHRASES, DROPPED_TOKENLESS, DROPPED_CROWDS, DROPPED_EMPTY, CUT
)  # fmt: skip


class GroundingDatasetMapper:
    """Turns a detection or grounding record into what the model takes.

    Training output: `image` (3, H, W) uint8, `height`, `width`, `file_name`,
    `image_id`, `dataset_name`, `prompt` (a Prompt), `instances` with `gt_boxes`,
    `gt_classes` (the index of the phrase in the prompt), and `gt_masks` (BitMasks) with
    `use_masks`. An image without boxes is kept, with no instances. A question has its `answers`,
    too; of questions and captions whose boxes are not known there are no `instances` at all.
    `regression` False, of the data sets of `no_regression`: the boxes are not to be regressed.

    Test output: the record without its annotations, plus `image` and `prompt`, a list: the
    vocabulary of the record's data set in chunks that fit, or the one caption or question, or,
    where a record of that task has no caption, one to be written. A detection record that does not
    name its data set gets no prompt: the model's own vocabulary is used.

    Args:
        is_train: see above.
        augmentations: Detectron2's, applied in this order. A caption or class name with the
            words left or right is never seen mirrored: such a flip is taken back.
        tokenizer: a `PromptTokenizer`.
        image_format: `"BGR"` or `"RGB"`, the model's `input_format`.
        max_classes, full_prompt_prob, shuffle, separator: see `DetectionPromptSampler`.
        negative_captions: so many captions of other images are put around the caption of a
            grounding record, as far as they fit; with a mapping from names of data sets only
            around captions of these. GLIP-L: 20, for image-text pairs only.
        plain_caption_prob: how often a caption is left as it is. GLIP-L: 0.4.
        full_captions_prob: how often `negative_captions` are drawn, else a smaller number,
            all equally likely. GLIP-L: 0.5.
        chunk_size: at most so many names in a prompt at test time; None: as many as fit.
        caption_knowledge: at test time write the words around a class name that the metadata of the
            data set tells (`caption_knowledge`, some data sets of ODinW); see `class_knowledge`.
        tuned_datasets: data sets with the same classes, as `datasets` of the loader of training
            data, for which a prompt is tuned: these classes are asked for as at test time in
            training, too, and with the prompt's embedding wherever they are the data set's.
        no_regression: names of data sets whose boxes tell where a phrase is and train neither the
            regression of boxes nor the centerness: pseudo labels, as in YOLO-World (Section 3.4).
        use_masks: give `gt_masks`, for records whose annotations have segmentations.
        recompute_boxes: boxes from the augmented masks (tighter after a crop).
        dataset_name: for records that do not name their data set.

    Attributes:
        report: running counts of what had to be left out (`Report`).
    """

    def __init__(
        self,
        *,
        is_train: bool,
        augmentations: Sequence[Any],
        tokenizer: Tokenizer,
        image_format: str = "BGR",
        max_classes: int = 85,
        full_prompt_prob: float = 0.5,
        shuffle: bool = True,
        separator: str = SEPARATOR,
        negative_captions: int | Mapping[str, int] = 0,
        plain_caption_prob: float = 0.0,
        full_captions_prob: float = 1.0,
        chunk_size: int | None = None,
        caption_knowledge: bool = False,
        tuned_datasets: str | Sequence[str | Sequence] = (),
        no_regression: Sequence[str] = (),
        use_masks: bool = False,
        recompute_boxes: bool = False,
        dataset_name: str | None = None,
    ):
        if recompute_boxes and not use_masks:
            raise ValueError("recompute_boxes needs use_masks=True")
        self.is_train = is_train
        self.augmentations = T.AugmentationList(list(augmentations))
        self.tokenizer = tokenizer
        self.image_format = image_format
        self.vocabulary = VocabularyPrompts(
            tokenizer,
            chunk_size=chunk_size,
            separator=separator,
            caption_knowledge=caption_knowledge,
            tuned_datasets=tuned_datasets,
        )
        if isinstance(no_regression, str):
            raise ValueError(f"no_regression is a list of names, got {no_regression!r}")
        self.no_regression = frozenset(no_regression)
        self.use_masks = use_masks
        self.recompute_boxes = recompute_boxes
        self.dataset_name = dataset_name
        self.negative_captions = negative_captions
        self.plain_caption_prob = plain_caption_prob
        self.full_captions_prob = full_captions_prob
        for name in ("plain_caption_prob", "full_captions_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        self.report = Report(running=DROPPED)
        self._make_sampler = partial(
            DetectionPromptSampler,
            tokenizer=tokenizer,
            max_classes=max_classes,
            full_prompt_prob=full_prompt_prob,
            shuffle=shuffle,
            separator=separator,
        )
        self._samplers: dict[str, DetectionPromptSampler] = {}
        self._caption_pools: dict[str | None, Sequence[tuple[str, str]]] = {}

    def prepare(self, dataset_name: str, records: Sequence[Record]) -> None:
        """Read now what the records of a data set need, before there are data workers.

        That is the vocabulary, which workers then need not look up in the catalogs, and for
        captions among others the records that these are taken from.

        Args:
            dataset_name: of the records.
            records: all of them; a `RecordIndex`, or a list whose first record says whether they
                are captions.

        Raises:
            DataError: boxes without class names, a class that cannot be asked for, or data on which
                the prompt of `tuned_datasets` cannot be tuned.
        """
        if self.is_train and self.vocabulary.tuned_datasets:
            self.vocabulary.require_tuned(dataset_name)
        captions = has_captions(records)
        if captions and self.most_negatives(dataset_name):
            self._caption_pools[dataset_name] = CaptionPool(records)
        if captions and detection_classes(dataset_name) is None:
            return
        try:
            if self.is_train and not self.vocabulary.fixed:
                self._prompt_sampler(dataset_name)
            else:
                self.vocabulary(dataset_name)
        except PromptError as error:
            raise DataError(
                f"{error}. The class is one of data set {dataset_name!r}: rename it in the files "
                "of every split"
            ) from error

    def __call__(self, record: Record) -> Record:
        """The model's input for a record, see above.

        Args:
            record: a dict of the data set; not changed.

        Raises:
            FileNotFoundError, ImageReadError: the image.
            ImageSizeError: the image has another size than the record says.
            DataError: in training: a question without answers, or a caption that is to be written.
            PromptError: a prompt that cannot be built from the record.
        """
        record = dict(record)
        # Of a question or caption without this field nothing is known about boxes.
        boxes_known = "annotations" in record or "task" not in record
        annotations = [dict(annotation) for annotation in record.pop("annotations", [])]
        image = read_record_image(record, self.image_format)
        check_image_size(record, image)
        if not self.is_train:
            return self._test_output(record, annotations, image)

        crowd = [a for a in annotations if a.get("iscrowd", 0)]
        single = [a for a in annotations if not a.get("iscrowd", 0)]
        self.report.count(DROPPED_CROWDS, len(crowd), str(record["file_name"]))
        if "task" in record:
            sample = self._task_sample(record, single)
        elif "caption" in record:
            sample = self._grounding_sample(record, single)
        else:
            sample = self._detection_sample(record, single, crowd)
        said = " ".join((sample.prompt.caption, *record.get("answers", ())))
        image, transforms = self._augment(image, said)
        instances = make_instances(
            sample.annotations,
            transforms,
            image.shape[:2],
            (record["height"], record["width"]),
            use_masks=self.use_masks,
            recompute_boxes=self.recompute_boxes,
            where=record["file_name"],
        )
        lost = len(sample.annotations) - len(instances)
        self.report.count(DROPPED_EMPTY, lost, str(record["file_name"]))
        keys = ("height", "width", "file_name", "image_id", "dataset_name", "answers")
        output = {key: record[key] for key in keys if key in record}
        if boxes_known:
            output["instances"] = instances
        if record.get("dataset_name", self.dataset_name) in self.no_regression:
            output["regression"] = False
        return {**output, "image": _to_tensor(image), "prompt": sample.prompt}

    def _test_output(self, record: Record, annotations: list[Record], image: np.ndarray) -> Record:
        if "caption" in record or "task" in record:
            record["prompt"] = [evaluation_prompt(record, annotations)]
        else:
            name = record.get("dataset_name", self.dataset_name)
            if name is not None:
                record["prompt"] = self.vocabulary(name)
        aug_input = T.AugInput(image)
        self.augmentations(aug_input)
        record["image"] = _to_tensor(aug_input.image)
        return record

    def _augment(self, image: np.ndarray, caption: str) -> tuple[np.ndarray, T.TransformList]:
        aug_input = T.AugInput(image)
        transforms = self.augmentations(aug_input)
        image = aug_input.image
        flips = sum(isinstance(t, T.HFlipTransform) for t in transforms.transforms)
        if flips % 2 and names_direction(caption):
            # Mirrored once more instead of leaving the flip out of the list: whatever the
            # augmentations are and however they are nested, left is left again.
            back = T.HFlipTransform(image.shape[1])
            image = back.apply_image(image)
            transforms = transforms + back
        return image, transforms

    def _detection_sample(
        self, record: Record, annotations: list[Record], crowd: list[Record]
    ) -> CaptionSample:
        name = record.get("dataset_name", self.dataset_name)
        if name is None:
            raise ValueError(
                f"the record of {record['file_name']} has neither a caption nor a dataset_name, "
                "so its class names are unknown: use build_grounding_train_loader, or give the "
                "mapper a dataset_name"
            )
        positives = {a["category_id"] for a in annotations}
        if self.vocabulary.fixed:
            prompt = self.vocabulary.training_prompt(name, positives)
            return CaptionSample(prompt, _of_phrases(prompt, annotations))
        sampled = self._prompt_sampler(name)(
            positives,
            absent_class_ids(record, name),
            # A crowd box is not trained on, but what is in it must not be called absent.
            excluded_ids={a["category_id"] for a in crowd},
        )
        kept = _of_phrases(sampled.prompt, annotations)
        lost = len(annotations) - len(kept)
        self.report.count(DROPPED_POSITIVES, lost, str(record["file_name"]))
        return CaptionSample(sampled.prompt, kept)

    def _task_sample(self, record: Record, annotations: list[Record]) -> CaptionSample:
        """A question or a caption: no captions of other images stand around it."""
        learned = "answers" if record["task"] == "question" else "caption"
        if learned not in record:
            raise DataError(
                f"{record['file_name']}: a record of the task {record['task']!r} without "
                f"{learned!r} cannot be trained on: is it of a test set?"
            )
        caption, kept = self._fitting(record, annotations)
        return grounding_sample(caption, kept, kind=record["task"])

    def _fitting(self, record: Record, annotations: list[Record]) -> tuple[str, list[Record]]:
        """The caption as far as it fits, and the annotations whose phrases are in it."""
        caption, fitting = cut_to_fit(record, annotations, self.tokenizer)
        self.report.count(CUT, int(caption != record["caption"]), str(record["file_name"]))
        lost = len(annotations) - len(fitting)
        self.report.count(DROPPED_PHRASES, lost, str(record["file_name"]))
        kept = with_tokens(caption, fitting, self.tokenizer)
        self.report.count(DROPPED_TOKENLESS, len(fitting) - len(kept), str(record["file_name"]))
        return caption, kept

    def _grounding_sample(self, record: Record, annotations: list[Record]) -> CaptionSample:
        caption, kept = self._fitting(record, annotations)
        name = record.get("dataset_name", self.dataset_name)
        count = self._number_of_negatives(name)
        if count:
            pool = self._caption_pools.get(name, ())
            caption, own_span = surround_with_captions(
                caption, record["file_name"], pool, count, self.tokenizer
            )
            return grounding_sample(caption, moved_spans(kept, own_span[0]), own_span)
        return grounding_sample(caption, kept)

    def most_negatives(self, dataset_name: str | None) -> int:
        """How many captions of other images at most are put around one of a data set."""
        most = self.negative_captions
        return most.get(dataset_name or "", 0) if isinstance(most, Mapping) else most

    def _number_of_negatives(self, dataset_name: str | None) -> int:
        """GLIP's rule: none, all, or a number between."""
        most = self.most_negatives(dataset_name)
        if not most or random.random() < self.plain_caption_prob:
            return 0
        return most if random.random() < self.full_captions_prob else random.randrange(most)

    def _prompt_sampler(self, name: str) -> DetectionPromptSampler:
        if name not in self._samplers:
            self._samplers[name] = self._make_sampler(class_names(name))
        return self._samplers[name]


def _of_phrases(prompt: Prompt, annotations: list[Record]) -> list[Record]:
    """The annotations of classes that a prompt asks for, numbered by its phrases."""
    phrases = {class_id: k for k, class_id in enumerate(prompt.class_ids)}
    asked = [a for a in annotations if a["category_id"] in phrases]
    return [{**a, "category_id": phrases[a["category_id"]]} for a in asked]


def _to_tensor(image: np.ndarray) -> torch.Tensor:
    """(H, W, 3) array -> (3, H, W) tensor."""
    return torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))

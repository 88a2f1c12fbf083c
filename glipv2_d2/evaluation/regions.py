"""Regions whose boxes are given: retrieval and classification by embeddings (CLOC, Section 5.1)."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from ..errors import DataError
from ..language.class_names import detection_classes
from ..language.prompt import clean_name
from ..language.spans import phrase_text
from .build import EVALUATORS
from .collect import GatheringEvaluator, Results, write_json_rows
from .record_evaluator import Record, true_box

__all__ = ["RegionClassificationEvaluator", "RegionEvaluator", "RegionRetrievalEvaluator"]

RECALL_AT = (1, 10)
ROWS_AT_ONCE = 1024  # of a matrix of similarities


class _Regions(NamedTuple):
    """The regions of a record: boxes (n, 4) x0, y0, x1, y1 in its pixels, and their n texts."""

    boxes: list[list[float]]
    texts: list[str]


class RegionEvaluator(GatheringEvaluator):
    """Base of the evaluators that give the model all boxes and look at their embeddings.

    The regions are the annotations of a data set, its crowds excepted; their texts are the phrases
    of captions or the names of classes. `glip eval` shows them to the model (`with_boxes`), which
    answers with "region_embeddings" and "text_embeddings", see `CLOC.inference`.

    Args:
        dataset_name: a registered data set of captions or of detection.
        output_dir: where a file with a row for each region is written; None: nowhere.
        distributed: gather the embeddings of all processes.

    Raises:
        DataError: no such data set, or no box in it.
    """

    def __init__(self, dataset_name: str, output_dir: str | None = None, distributed: bool = True):
        if dataset_name not in DatasetCatalog.list():
            raise DataError(f"there is no registered data set {dataset_name!r}")
        records = DatasetCatalog.get(dataset_name)
        names = detection_classes(dataset_name)
        self.class_texts = [clean_name(name) for name in names or ()]
        self.regions = {x["image_id"]: _regions_of(x, self.class_texts) for x in records}
        if not any(regions.texts for regions in self.regions.values()):
            raise DataError(f"no image of the data set {dataset_name!r} has a box to be evaluated")
        super().__init__(dataset_name, [x["image_id"] for x in records], output_dir, distributed)

    def reset(self) -> None:
        """Begin a new evaluation."""
        super().reset()
        self._kept: dict[Hashable, Any] = {}

    def with_boxes(self, model_input: Mapping[str, Any]) -> dict[str, Any]:
        """The input with "boxes", in pixels of its "height" and "width", and "texts"."""
        regions = self._regions(model_input)
        return {**model_input, "boxes": regions.boxes, "texts": self.texts_for(regions)}

    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """Take the embeddings of a batch.

        Raises:
            DataError: an image that is unknown or came before; a model that gives no embeddings of
                regions, or NaN.
        """
        for model_input, output in zip(inputs, outputs, strict=True):
            image_id = self._ledger.add(model_input)
            if "region_embeddings" not in output:
                raise DataError(
                    f"image {image_id!r}: the model's output has no 'region_embeddings'. These are "
                    "evaluated of a CLOC, or of a GLIPv2 with model.contrast, by `glip eval`"
                )
            keys = ("region_embeddings", "text_embeddings")
            found = [torch.as_tensor(output[key]).float().cpu().numpy() for key in keys]
            if not all(np.isfinite(values).all() for values in found):
                raise DataError(
                    f"image {image_id!r}: embeddings are NaN or infinite. Has the model diverged?"
                )
            self._kept[image_id] = self.kept_of(*found)

    def evaluate_embedder(self, embedder: Any) -> Results:
        """The results of a `RegionEmbedder` (of a GLIPv2, for instance), in one process.

        Args:
            embedder: shown each image of the data set alone, and each text once.
        """
        self.reset()
        embedded: dict[str, np.ndarray] = {}
        for record in DatasetCatalog.get(self.dataset_name):
            asked = self.with_boxes(record)
            new = [text for text in dict.fromkeys(asked["texts"]) if text not in embedded]
            embedded.update(zip(new, embedder.embed_texts(new) if new else ()))
            regions = np.zeros((0, embedder.dim), np.float32)
            if asked["boxes"]:
                (found,) = embedder.embed_regions([record["file_name"]], [asked["boxes"]])
                regions = found.embeddings
            texts = np.array([embedded[text] for text in asked["texts"]])
            self.process([record], [{"region_embeddings": regions, "text_embeddings": texts}])
        return self.evaluate()

    def collected(self) -> dict[Hashable, Any]:
        """Return image id -> what `kept_of` gave."""
        return self._kept

    def score(self, parts: list[dict[Hashable, Any]]) -> Results:
        """Bring what was kept into the order of the records and score it."""
        kept = {image_id: x for part in parts for image_id, x in part.items()}
        found, results = self.score_regions([kept[image_id] for image_id in self.regions])
        if self._output_dir:
            regions = (
                {"image_id": image_id, "box": np.round(box, 2).tolist(), "text": text}
                for image_id, of_image in self.regions.items()
                for box, text in zip(*of_image)
            )
            rows = ({**region, **row} for region, row in zip(regions, found, strict=True))
            write_json_rows(os.path.join(self._output_dir, f"{self.dataset_name}.json"), rows)
        for title, metrics in results.items():
            self.log_metrics(f"{title} on {self.dataset_name}", metrics)
        return results

    def texts_for(self, regions: _Regions) -> list[str]:
        """The texts that are embedded beside the boxes of an image."""
        raise NotImplementedError

    def kept_of(self, regions: np.ndarray, texts: np.ndarray) -> Any:
        """What is kept of an image's n regions (n, D) and K texts (K, D), float32."""
        raise NotImplementedError

    def score_regions(self, kept: list[Any]) -> tuple[Iterable[Record], Results]:
        """A row for the file for each region, and the results, from what `kept_of` gave for each
        image."""
        raise NotImplementedError

    def _regions(self, model_input: Mapping[str, Any]) -> _Regions:
        # An unknown image is the ledger's to refuse.
        return self.regions.get(model_input.get("image_id"), _Regions([], []))


@EVALUATORS.register()
class RegionRetrievalEvaluator(RegionEvaluator):
    """From a region to its text and back, among all of a data set: recall at 1 and 10, percent.

    The candidates of a region are all *distinct* texts of the data set. A text is asked for once,
    and found where one of the regions that it is of is among the first. Of equal scores those of
    others come first, so that embeddings which are all alike find nothing.
    """

    def texts_for(self, regions: _Regions) -> list[str]:
        """Those of its own regions."""
        return list(dict.fromkeys(regions.texts))

    def kept_of(self, regions: np.ndarray, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both."""
        return regions, texts

    def score_regions(self, kept: list[Any]) -> tuple[Iterable[Record], Results]:
        """See the class; the rows have the rank of the own text and of the region, from 1 on."""
        regions = np.concatenate([rows for rows, _ in kept if len(rows)])
        embedded: dict[str, np.ndarray] = {}
        for of_image, (_, texts) in zip(self.regions.values(), kept):
            for text, row in zip(self.texts_for(of_image), texts):
                embedded.setdefault(text, row)
        number = {text: k for k, text in enumerate(embedded)}
        own = np.array([number[text] for x in self.regions.values() for text in x.texts])
        texts = np.stack(list(embedded.values()))
        of_region = _ranks(regions, texts, own[:, None] == np.arange(len(texts)))
        of_text = _ranks(texts, regions, np.arange(len(texts))[:, None] == own)
        metrics = {
            f"{way}_R@{k}": 100 * float((ranks <= k).mean())
            for way, ranks in (("r2t", of_region), ("t2r", of_text))
            for k in RECALL_AT
        }
        rows = (
            {"rank": int(rank), "rank_of_text": int(of_text[k])} for rank, k in zip(of_region, own)
        )
        return rows, {"region_retrieval": metrics}


@EVALUATORS.register()
class RegionClassificationEvaluator(RegionEvaluator):
    """The class of each given box among all names of a data set: the mean accuracy of the classes.

    "mAcc" is the mean over the classes that have a box, of those that the metadata's
    `evaluated_classes` name, where it does; "acc" is the share of their boxes; percent. Names are
    asked for bare, without "a photo of"; those that are written alike count for each other.

    Raises:
        DataError: a data set without class names.
    """

    def __init__(self, dataset_name: str, output_dir: str | None = None, distributed: bool = True):
        super().__init__(dataset_name, output_dir, distributed)
        if not self.class_texts:
            raise DataError(
                f"the data set {dataset_name!r} has no class names, among which regions could be "
                "classified: evaluate captions with the RegionRetrievalEvaluator"
            )
        evaluated = MetadataCatalog.get(dataset_name).get("evaluated_classes")
        self.evaluated = set(self.class_texts if evaluated is None else map(clean_name, evaluated))

    def texts_for(self, regions: _Regions) -> list[str]:
        """All names."""
        return self.class_texts

    def kept_of(self, regions: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """The classes (n,) of the regions."""
        return (regions @ texts.T).argmax(axis=1)

    def score_regions(self, kept: list[Any]) -> tuple[Iterable[Record], Results]:
        """See the class."""
        names = [self.class_texts[k] for k in np.concatenate(kept)]
        truth = [text for regions in self.regions.values() for text in regions.texts]
        hits: dict[str, list[bool]] = {}
        for name, true_name in zip(names, truth, strict=True):
            if true_name in self.evaluated:
                hits.setdefault(true_name, []).append(name == true_name)
        if not hits:
            raise DataError(f"{self.dataset_name!r} has no box of the classes that are evaluated")
        metrics = {
            "mAcc": 100 * float(np.mean([np.mean(of_class) for of_class in hits.values()])),
            "acc": 100 * float(np.mean(np.concatenate(list(hits.values())))),
        }
        return ({"class": name} for name in names), {"region_classification": metrics}


def _regions_of(record: Record, class_texts: Sequence[str]) -> _Regions:
    boxes, texts = [], []
    for annotation in record.get("annotations", ()):
        if annotation.get("iscrowd", 0):
            continue
        boxes.append(true_box(annotation))
        if "caption" in record:
            texts.append(phrase_text(record["caption"], annotation["spans"]))
        else:
            texts.append(class_texts[annotation["category_id"]])
    return _Regions(boxes, texts)


def _ranks(queries: np.ndarray, candidates: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Of each of n queries the rank (n,) of its best right candidate, from 1 on.

    Args:
        right: (n, m) bool, at least one in each row.
    """
    ranks = []
    for start in range(0, len(queries), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        scores = queries[rows] @ candidates.T
        best = np.where(right[rows], scores, -np.inf).max(axis=1, keepdims=True)
        ranks.append(1 + ((scores >= best) & ~right[rows]).sum(axis=1))
    return np.concatenate(ranks)

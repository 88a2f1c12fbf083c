"""COCO captioning: BLEU, ROUGE-L, CIDEr-D of generated captions, and METEOR and SPICE by Java."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from ..errors import DataError, UsageError
from . import coco_java
from .build import EVALUATORS
from .caption_metrics import bleu, cider_d, rouge_l
from .caption_tokens import tokenize_caption
from .collect import Results
from .record_evaluator import Record, RecordEvaluator
from .tables import Table


@EVALUATORS.register()
class CaptionEvaluator(RecordEvaluator):
    """Computes BLEU-1 to BLEU-4, ROUGE-L and CIDEr-D of generated captions, in percent.

    The formulas are those of pycocoevalcap. Its tokenizer, METEOR and SPICE are Java programs:
    where that package and `java` are installed they are used; else a tokenizer in Python is, which
    splits nearly all captions alike. The table of the result names the tokenizer.

    `<data set>_predictions.json` is what COCO's server takes: [{"image_id", "caption"}].

    Args:
        dataset_name: a registered data set with one record an image, each with `references`, a list
            of captions. Where no record has any, the captions are written and nothing is scored.
        output_dir, distributed: see `RecordEvaluator`.
        java: use the Java programs; None: where they are installed.

    Raises:
        DataError: records without `references` among others with, or an output without "caption".
        UsageError: `java=True` and they are not installed.

    Returns (`evaluate`):
        `{"caption": {"BLEU-1", ..., "BLEU-4", "ROUGE-L", "CIDEr"}}`, with Java METEOR and SPICE.
    """

    boxes_only = True  # masks need not be computed

    def __init__(
        self,
        dataset_name: str,
        output_dir: str | None = None,
        distributed: bool = True,
        *,
        java: bool | None = None,
    ):
        super().__init__(dataset_name, output_dir, distributed)
        if java and not coco_java.has_java():
            raise UsageError(
                "java=True, but pycocoevalcap or java is not installed: pip install "
                "'glipv2_d2[captions]' and a Java runtime, or leave java out"
            )
        self.java = coco_java.has_java() if java is None else java
        if self.java:
            coco_java.tokenize_captions(["it works"])  # or it fails before the captions are written
        without = [r["image_id"] for r in self.records if not r.get("references")]
        self._is_scored = not without
        if without and len(without) < len(self.records):
            raise DataError(
                f"data set {dataset_name!r}: {len(without)} of {len(self.records)} images have no "
                f"reference captions, the first: {without[0]!r}. Is the data set one of captions "
                "to be written (task='caption'), and its file complete?"
            )

    def add_output(self, image_id: Hashable, output: Mapping[str, Any]) -> None:
        """Keep the caption of the record with this id."""
        if not isinstance(output.get("caption"), str):
            raise DataError(
                f"image {image_id!r}: the model's output has no 'caption'. Does the model have a "
                "caption head, and has the record task='caption' and no caption of its own?"
            )
        self._predictions[image_id] = self.caption_of(output)

    def caption_of(self, output: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is kept of an output and written to the file."""
        return {"caption": output["caption"]}

    def as_row(self, prediction: dict[str, Any]) -> Record:
        """Return what is written to the file for one record."""
        return prediction

    def score_records(self, predictions: list[dict[str, Any]]) -> Results:
        """Compute the metrics; see the class."""
        if not self._is_scored:
            log = logging.getLogger(__name__)
            text = "%s has no reference captions: its %d captions are %s, and nothing is scored"
            kept = f"in {self._output_dir}" if self._output_dir else "not written (no output_dir)"
            log.warning(text, self.dataset_name, len(predictions), kept)
            return {}
        captions = [prediction["caption"] for prediction in predictions]
        references = [record["references"] for record in self.records]
        metrics, tokenizer = caption_metrics(captions, references, self.java)
        title = f"captions of {len(captions)} images of {self.dataset_name}"
        row = [*metrics.values(), tokenizer]
        self.log_tables(Table(title, [*metrics, "tokenizer"], [row]))
        return {"caption": metrics}


def caption_metrics(
    captions: list[str], references: list[list[str]], java: bool
) -> tuple[dict[str, float], str]:
    """Compute all metrics of a corpus in percent, and name the tokenizer.

    Args:
        captions: one for each image.
        references: for each image one or more.
        java: by the programs of `coco_java`.
    """
    texts = [*captions, *(text for known in references for text in known)]
    words = coco_java.tokenize_captions(texts) if java else list(map(tokenize_caption, texts))
    candidates, rest = words[: len(captions)], iter(words[len(captions) :])
    truth = [[next(rest) for _ in known] for known in references]
    scores = {f"BLEU-{n}": value for n, value in enumerate(bleu(candidates, truth), start=1)}
    scores["ROUGE-L"] = float(np.mean([rouge_l(c, known) for c, known in zip(candidates, truth)]))
    scores["CIDEr"] = float(cider_d(candidates, truth).mean())
    if java:
        scores |= coco_java.java_metrics(candidates, truth)
    tokenizer = coco_java.TOKENIZER if java else "PTB-like (Python)"
    return {name: 100 * value for name, value in scores.items()}, tokenizer

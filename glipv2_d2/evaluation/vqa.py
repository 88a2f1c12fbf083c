"""Visual question answering: VQA's accuracy, exact match, and the boxes of grounded answers."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from torchvision.ops import box_iou

from ..data.datasets.vqa import TYPES
from ..errors import DataError
from ..language.answers import agreement, normalize_answer
from ..language.prompt import MASK
from ..language.spans import Span, phrase_key
from .build import EVALUATORS
from .collect import Results, write_json_rows
from .record_evaluator import Record, RecordEvaluator, ranked, true_box
from .tables import Table


def vqa_accuracy(answer: str, human_answers: Sequence[str]) -> float:
    """VQA's accuracy of an answer, 0 ... 1: the `agreement` on it among people.

    As in the official `vqaEval.py`, answers are compared normalized unless all people typed the
    same; then the answer must be just that.
    """
    typed = [_trimmed(human) for human in human_answers]
    answer = _trimmed(answer)
    if len(set(typed)) > 1:
        typed, answer = [normalize_answer(human) for human in typed], normalize_answer(answer)
    return agreement(typed.count(answer), len(typed))


def _trimmed(answer: str) -> str:
    return answer.replace("\n", " ").replace("\t", " ").strip()


@EVALUATORS.register()
class VQAEvaluator(RecordEvaluator):
    """Computes the accuracy over questions, in all and for each type of answer and question.

    A question with `human_answers` (VQAv2's ten) is judged by `vqa_accuracy`. One without has the
    score that its `answers` give to what was answered: exact match where one answer is right (GQA,
    SNLI-VE, scenes), LXMERT's accuracy with soft scores. Types have the mean over their questions
    of the same accuracy. (The first official scripts took one of the ten subsets for the types
    instead of their mean.)

    Where questions have boxes, the best box of each span of their text must overlap one of its true
    boxes (IoU >= 0.5): `answer_R@1` over the answers' `[MASK]`, `entity_R@1` over the other spans.
    A span for which nothing is predicted is a miss.

    `<data set>_results.json` is for the server: a list of `question_id` and `answer`, or what
    `answer_fields` of the metadata call these (GQA: `questionId`, `prediction`). It is all there is
    of a test set without answers.

    Args:
        dataset_name: a registered data set whose records are questions.
        output_dir, distributed: see `RecordEvaluator`.

    Raises:
        DataError: a record is no question, or some questions have no answer while others have.

    Returns (`evaluate`):
        `{"vqa": {"accuracy", "accuracy-<type>:<its value>", "answer_R@1", "entity_R@1"}}` in
        percent.
    """

    boxes_only = True  # masks need not be computed

    def __init__(self, dataset_name: str, output_dir: str | None = None, distributed: bool = True):
        super().__init__(dataset_name, output_dir, distributed)
        unanswered = []
        for record in self.records:
            if record.get("task") != "question":
                raise DataError(
                    f"data set {dataset_name!r}: record {record['image_id']!r} is no question "
                    "(task='question'), so VQA's accuracy cannot be computed"
                )
            if "answers" not in record and "human_answers" not in record:
                unanswered.append(record["image_id"])
        self.has_answers = not unanswered
        if 0 < len(unanswered) < len(self.records):
            raise DataError(
                f"data set {dataset_name!r}: {len(unanswered)} of {len(self.records)} questions "
                f"have no answer, the first: {unanswered[0]!r}"
            )

    def add_output(self, image_id: Hashable, output: Mapping[str, Any]) -> None:
        """Keep the answer, and the boxes where the question has true ones.

        Raises:
            DataError: the model has given no answer.
        """
        if not isinstance(output.get("answer"), str):
            raise DataError(
                f"question {image_id!r}: the model's output has no 'answer': has it a VQA head?"
            )
        kept = {key: output[key] for key in ("answer", "answers") if key in output}
        if self._by_id[image_id].get("annotations"):
            spans = [phrase_key(phrase) for phrase in output["prompt"].spans]
            kept |= {**ranked(output["instances"]), "spans": spans}
        self._predictions[image_id] = kept

    def as_row(self, prediction: Mapping[str, Any]) -> Record:
        """Return the answers, and the boxes where they were kept."""
        boxes = super().as_row(prediction) if "boxes" in prediction else {}
        answers = {key: prediction[key] for key in ("answer", "answers") if key in prediction}
        return {**answers, **boxes}

    def score_records(self, predictions: list[Mapping[str, Any]]) -> Results:
        """Write the file for the server; compute the accuracy, see the class."""
        path = None
        if self._output_dir:
            path = os.path.join(self._output_dir, f"{self.dataset_name}_results.json")
            ids = (record.get("question_id", record["image_id"]) for record in self.records)
            metadata = MetadataCatalog.get(self.dataset_name)
            fields = metadata.get("answer_fields", ("question_id", "answer"))
            pairs = zip(ids, (kept["answer"] for kept in predictions))
            write_json_rows(path, (dict(zip(fields, pair)) for pair in pairs))
        if not self.has_answers:
            kept = f"are in {path}" if path else "were not written: give the evaluator a folder"
            text = "%s has no answers, so no accuracy can be computed here. Those of the model %s"
            logging.getLogger(__name__).warning(text, self.dataset_name, kept)
            return {}
        judged = list(zip(self.records, predictions))
        scores = [_accuracy(record, prediction["answer"]) for record, prediction in judged]
        results = {"accuracy": 100 * float(np.mean(scores))}
        table = [["all", len(scores), results["accuracy"]]]
        for kind in TYPES:
            by_value: dict[str, list[float]] = defaultdict(list)
            for record, score in zip(self.records, scores):
                if kind in record:
                    by_value[record[kind]].append(score)
            for value, group in sorted(by_value.items()):
                mean = 100 * float(np.mean(group))
                results[f"accuracy-{kind}:{value}"] = mean
                table.append([f"{kind}: {value}", len(group), mean])
        title = f"VQA, {self.dataset_name}"
        self.log_tables(Table(title, ["questions", "number", "accuracy"], table))
        results |= self._recalls(hit for pair in judged for hit in _hits(*pair))
        return {"vqa": results}

    def _recalls(self, hits: Iterator[tuple[str, bool]]) -> dict[str, float]:
        """The recall of the boxes of answers and entities; nothing where there are none."""
        by_kind: dict[str, list[bool]] = defaultdict(list)
        for kind, hit in hits:
            by_kind[kind].append(hit)
        recalls = {kind: 100 * float(np.mean(found)) for kind, found in sorted(by_kind.items())}
        if recalls:
            rows = [[kind, len(by_kind[kind]), recall] for kind, recall in recalls.items()]
            title = f"Grounded VQA, {self.dataset_name}"
            self.log_tables(Table(title, ["spans", "number", "R@1"], rows))
        return {f"{kind}_R@1": recall for kind, recall in recalls.items()}


def _accuracy(record: Record, answer: str) -> float:
    if "human_answers" in record:
        return vqa_accuracy(answer, record["human_answers"])
    return float(record["answers"].get(answer, 0.0))


def _hits(record: Record, prediction: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """("answer" or "entity", whether its best box is right) of each span that has true boxes."""
    true_boxes: dict[Span, list[list[float]]] = defaultdict(list)
    for annotation in record.get("annotations", ()):
        for span in phrase_key(annotation["spans"]):
            true_boxes[span].append(true_box(annotation))
    for (start, end), boxes in sorted(true_boxes.items()):
        phrases = [k for k, spans in enumerate(prediction["spans"]) if (start, end) in spans]
        mine = prediction["boxes"][np.isin(prediction["phrases"], phrases)][:1]
        overlaps = box_iou(torch.from_numpy(mine), torch.tensor(boxes, dtype=torch.float64))
        kind = "answer" if record["caption"][start:end] == MASK else "entity"
        yield kind, bool((overlaps >= 0.5).any())

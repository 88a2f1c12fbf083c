"""SNLI-VE (Xie et al. 2019): does a picture entail a sentence? The sentence is the question."""

from __future__ import annotations

import json
from collections.abc import Iterator

from detectron2.utils.file_io import PathManager

from ...errors import DataError
from ..report import Record, RecordError, Report, reported
from .vqa import finished, question_record, question_records

SNLI_VE_ANSWERS = ("entailment", "neutral", "contradiction")


def load_snli_ve(
    json_file: str,
    image_root: str,
    dataset_name: str | None = None,
    *,
    report: Report | None = None,
) -> list[Record]:
    """Records of SNLI-VE, as `load_vqa_json` gives them; the answers are `SNLI_VE_ANSWERS`.

    Args:
        json_file: a jsonl with `pairID`, `Flickr30K_ID`, `sentence2` (the hypothesis) and
            `gold_label`.
        image_root: the folder of all images of Flickr30k, `<Flickr30K_ID>.jpg`.
        dataset_name: goes into the records.
        report: takes what is left out; one of its own by default, which is logged.

    Raises:
        DataError: the file is missing.
    """
    with reported(json_file, report) as report:
        records = question_records(_lines(json_file, report), json_file, _read, report)
    return finished(records, json_file, image_root, dataset_name)


def _lines(path: str, report: Report) -> Iterator[Record]:
    try:
        # "sig": editors on Windows put a byte order mark before the text.
        with PathManager.open(path, "r", encoding="utf-8-sig", errors="surrogateescape") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    entry = json.loads(line)
                except ValueError as error:
                    report.record("no json", f"{path}: line {number}", str(error))
                    continue
                if isinstance(entry, dict):
                    entry["question_id"] = entry.get("pairID")
                yield entry
    except FileNotFoundError:
        raise DataError(f"there is no file of hypotheses {path!r}") from None


def _read(entry: Record, where: str) -> Record:
    label = entry.get("gold_label")
    if label not in SNLI_VE_ANSWERS:
        what = f"the field 'gold_label' is {label!r:.60}, none of {', '.join(SNLI_VE_ANSWERS)}"
        raise RecordError("unknown label", where, what)
    record = question_record(entry, where, image_id="Flickr30K_ID", question="sentence2")
    record["file_name"] = f"{str(entry['Flickr30K_ID']).removesuffix('.jpg')}.jpg"
    return record | {"answers": {label: 1.0}, "answer_type": label}

"""GQA (Hudson and Manning 2019): questions with one answer each."""

from __future__ import annotations

from ...errors import DataError
from ..report import Record, RecordError, Report, reported
from .coco_like import load_json
from .vqa import finished, question_record, question_records, types_of


def load_gqa_json(
    json_file: str,
    image_root: str,
    dataset_name: str | None = None,
    *,
    report: Report | None = None,
) -> list[Record]:
    """Records of a question file of GQA, as `load_vqa_json` gives them.

    Args:
        json_file: `{question id: {"question", "imageId", "answer", "types"}}`, for instance
            `train_balanced_questions.json`; a test set has no `answer`.
        image_root: the folder of `<imageId>.jpg`.
        dataset_name: goes into the records.
        report: takes what is left out; one of its own by default, which is logged.

    Returns:
        Records with `answer_type` "open" or "binary" as in GQA's script, `question_type`, which is
        the structural one (verify, query, choose, logical, compare), and `semantic_type`.

    Raises:
        DataError: the file is missing or no such json.
    """
    content = load_json(json_file, "file of questions")
    if not isinstance(content, dict):
        raise DataError(f"{json_file}: not in GQA's format: no mapping of ids to questions")
    entries = [
        {**entry, "question_id": key} if isinstance(entry, dict) else entry
        for key, entry in content.items()
    ]
    with reported(json_file, report) as report:
        records = question_records(entries, json_file, _read, report)
    return finished(records, json_file, image_root, dataset_name)


def _read(entry: Record, where: str) -> Record:
    record = question_record(entry, where, image_id="imageId", question="question")
    record["file_name"] = f"{entry['imageId']}.jpg"
    if isinstance(types := entry.get("types"), dict):
        kind = "open" if types.get("structural") == "query" else "binary"
        fields = {"answer_type": kind, "question_type": types.get("structural")}
        record |= types_of({**fields, "semantic_type": types.get("semantic")})
    if (answer := entry.get("answer")) is not None:
        if not isinstance(answer, str):
            raise RecordError("bad answers", where, f"the field 'answer' is {answer!r:.60}")
        record["answers"] = {answer: 1.0}
    return record

"""Questions about images: VQAv2's json, LXMERT's json, and what all question formats share."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ...errors import DataError
from ...language.answers import soft_scores
from ..entries import file_name_problem, id_problem, json_objects, plain_id, short
from ..report import Record, RecordError, Report, reported
from .coco_like import load_json

# GLIPv2 holds out 2,000 images of val2014 (footnote 5) and does not say which.
DEVELOPMENT_IMAGES = 2000
DEVELOPMENT_SEED = "vqav2_dev"
IMAGE_KEYS = ("file_name", "height", "width")
TYPES = ("answer_type", "question_type", "semantic_type")


def load_vqa_json(
    json_file: str,
    image_root: str,
    dataset_name: str | None = None,
    *,
    report: Report | None = None,
    annotations: str | None = None,
    image_pattern: str = "COCO_{data_subtype}_{image_id:012d}.jpg",
    development: bool | None = None,
) -> list[Record]:
    """Records of questions in VQAv2's json, or in the json of LXMERT with scores.

    Args:
        json_file: VQAv2's `{"data_subtype", "questions": [{"question_id", "image_id",
            "question"}]}`, perhaps with `images[]` of `id` and `file_name`; or LXMERT's list of
            `{"question_id", "img_id", "sent", "label": {answer: score}}`, whose images are called
            `<img_id>.jpg`.
        image_root: the folder of the images.
        dataset_name: goes into the records.
        report: takes what is left out; one of its own by default, which is logged.
        annotations: VQAv2's second file, `annotations[]` with `question_id`, `answers`
            (`[{"answer"}]`, ten or any other number), `answer_type` and `question_type`. Without it
            nothing is known about the answers, as in a test set whose truth its server keeps.
        image_pattern: the file name of an image that is not in `images`.
        development: True: only questions about the `development_images` of the file; False: only
            the others.

    Returns:
        One dict per question in Detectron2's form, with `task="question"`, `question_id` (which is
        the `image_id` too), `original_img_id`, the question as `caption`, and, where they are
        known, `answers` {answer: soft score}, `human_answers` as they were typed, and types. Sizes
        are not in these files; they are those of the images.

    Raises:
        DataError: a file is missing or no such json, or questions and annotations do not belong
            together.
    """
    content = load_json(json_file, "file of questions")
    with reported(json_file, report) as report:
        if isinstance(content, list):
            if annotations is not None:
                raise DataError(f"{json_file} holds its answers itself: leave out {annotations!r}")
            records = question_records(content, json_file, _read_lxmert, report)
        else:
            entries, read = _vqav2(content, json_file, annotations, image_pattern)
            records = question_records(entries, json_file, read, report)
    if development is not None:
        held_out = development_images(record["original_img_id"] for record in records)
        records = [r for r in records if (r["original_img_id"] in held_out) == development]
    return finished(records, json_file, image_root, dataset_name)


def development_images(image_ids: Iterable[Any]) -> set[Any]:
    """The 2,000 images that are the development split, by a hash of their ids.

    It depends on the ids alone, not on their order nor on a library's generator.
    """
    keys = {i: hashlib.sha256(f"{DEVELOPMENT_SEED}:{i}".encode()).digest() for i in image_ids}
    return set(sorted(keys, key=keys.__getitem__)[:DEVELOPMENT_IMAGES])


def question_records(
    entries: Iterable[Any], place: str, read: Callable[[Record, str], Record], report: Report
) -> list[Record]:
    """The questions of a file as records; those that cannot be used are reported.

    Args:
        entries: json objects with `question_id`.
        place: the file, for the messages.
        read: gives the record of an entry, from `question_record`; takes the entry and its place.
        report: takes what is left out; of two with one id, whose the answers are cannot be told.
    """
    found = []
    for number, entry in json_objects(entries, place, report.record):
        try:
            found.append((number, read(entry, _where(place, number, entry))))
        except RecordError as error:
            report.unusable(error)
    counts = Counter(record["question_id"] for _, record in found)
    records = []
    for number, record in found:
        if (count := counts[record["question_id"]]) == 1:
            records.append(record)
            continue
        what = f"the field 'question_id' is that of {count} questions"
        report.record("duplicate question id", _where(place, number, record), what)
    return records


def _where(place: str, number: int, entry: Record) -> str:
    return f"{place}: entry {number}, question {short(entry.get('question_id'))}"


def question_record(entry: Record, where: str, *, image_id: str, question: str) -> Record:
    """The record of a question, without image file and answers.

    Args:
        entry: of the file.
        where: its place, for the messages.
        image_id, question: the names of these fields of it.

    Raises:
        RecordError: a field is missing or of another type.
    """
    for field in ("question_id", image_id):
        if problem := id_problem(entry.get(field)):
            raise RecordError("bad id", where, f"the field {field!r}: {problem}")
    text = entry.get(question)
    if not isinstance(text, str) or not text.strip():
        what = f"the field {question!r} is {short(text)}"
        raise RecordError("question is empty or no text", where, what)
    return {
        "image_id": entry["question_id"],
        "question_id": entry["question_id"],
        "original_img_id": entry[image_id],
        "caption": text,
        "task": "question",
    }


def types_of(fields: Mapping[str, Any]) -> dict[str, str]:
    """The types of a question for the tables of an evaluation, as far as they are known."""
    return {key: str(fields[key]) for key in TYPES if fields.get(key) is not None}


def finished(
    records: list[Record], json_file: str, image_root: str, dataset_name: str | None
) -> list[Record]:
    """The same records, with the folder of the images and the name of the data set."""
    for record in records:
        record["file_name"] = os.path.join(image_root, record["file_name"])
        if dataset_name is not None:
            record["dataset_name"] = dataset_name
    images = len({record["file_name"] for record in records})
    text = "loaded %d questions about %d images from %s"
    logging.getLogger(__name__).info(text, len(records), images, json_file)
    return records


def _read_lxmert(entry: Record, where: str) -> Record:
    record = question_record(entry, where, image_id="img_id", question="sent")
    record |= {"file_name": f"{entry['img_id']}.jpg", **types_of(entry)}
    if entry.get("label") is not None:
        record["answers"] = entry["label"]
    return record


def _vqav2(
    content: Any, json_file: str, annotations: str | None, image_pattern: str
) -> tuple[list[Any], Callable[[Record, str], Record]]:
    """The entries of a file of questions, and how each becomes a record."""
    questions = _list_of(content, "questions", json_file)
    answers = None if annotations is None else _read_annotations(annotations, questions, json_file)
    images = None
    if "images" in content:
        entries = json_objects(_list_of(content, "images", json_file), json_file, _refuse)
        images = {_id_of(image, "id"): image for _, image in entries}
    subtype = content.get("data_subtype", "")

    def read(entry: Record, where: str) -> Record:
        ids = {key: plain_id(entry.get(key)) for key in ("question_id", "image_id")}
        record = question_record({**entry, **ids}, where, image_id="image_id", question="question")
        if images is None:
            record["file_name"] = _file_name(image_pattern, ids["image_id"], subtype, where)
        elif (image := images.get(ids["image_id"])) is None:
            what = f"the field 'image_id' is that of no image: {ids['image_id']!r}"
            raise RecordError("unknown image", where, what)
        else:
            if problem := file_name_problem(image.get("file_name")):
                raise RecordError("bad file name", where, f"the field 'file_name': {problem}")
            record |= {key: image[key] for key in IMAGE_KEYS if key in image}
        if answers is not None:
            known = answers[ids["question_id"]]
            human = _human_answers(known, where)
            record |= {"human_answers": human, "answers": soft_scores(human), **types_of(known)}
        return record

    return questions, read


def _list_of(content: Any, field: str, json_file: str) -> list[Any]:
    value = content.get(field) if isinstance(content, dict) else None
    if not isinstance(value, list):
        raise DataError(f"{json_file}: not in VQAv2's format: the list {field!r} is missing")
    return value


def _refuse(kind: str, where: str, what: str) -> None:
    raise DataError(f"{where}: {what}")


def _read_annotations(path: str, questions: list[Any], json_file: str) -> dict[Any, Record]:
    """The annotation of each question, by its id."""
    entries = _list_of(load_json(path, "annotation file"), "annotations", path)
    annotations = [entry for _, entry in json_objects(entries, path, _refuse)]
    answered = Counter(_id_of(entry, "question_id") for entry in annotations)
    found = {_id_of(entry, "question_id"): entry for entry in annotations}
    asked = {
        _id_of(q, "question_id"): _id_of(q, "image_id") for q in questions if isinstance(q, dict)
    }
    unasked = [question for question in answered if question not in asked]
    twice = [question for question, count in answered.items() if count > 1]
    unanswered = [question for question in asked if question not in answered]
    # Files that count their questions from 0 have the same ids.
    images = ((q, image, _id_of(found.get(q, {}), "image_id")) for q, image in asked.items())
    elsewhere = [q for q, own, other in images if own != other and None not in (own, other)]
    for wrong, what in (
        (unasked, f"annotations in {path} are for questions that are not in {json_file}"),
        (twice, f"questions have several annotations in {path}"),
        (unanswered, f"questions of {json_file} have no annotation in {path}"),
        (elsewhere, f"questions of {json_file} are annotated for another image in {path}"),
    ):
        if wrong:
            raise DataError(
                f"{len(wrong)} {what}, the first: question {wrong[0]!r}. Do the two files belong "
                "together?"
            )
    return found


def _id_of(entry: Record, field: str) -> Any:
    """An id; None for what is no id."""
    value = entry.get(field)
    return None if id_problem(value) else plain_id(value)


def _human_answers(annotation: Record, where: str) -> list[str]:
    answers = annotation.get("answers")
    if isinstance(answers, list):
        typed = [entry.get("answer") for entry in answers if isinstance(entry, dict)]
        texts = [text for text in typed if isinstance(text, str)]
        if texts and len(texts) == len(answers):
            return texts
    what = f"the field 'answers' of its annotation is {short(answers)}"
    raise RecordError("bad answers", where, f"{what}, no list of objects with a text 'answer'")


def _file_name(pattern: str, image_id: Any, data_subtype: Any, where: str) -> str:
    try:
        return pattern.format(image_id=image_id, data_subtype=data_subtype)
    except (KeyError, IndexError, ValueError) as error:
        what = f"the image {short(image_id)} cannot be written as {pattern!r}: {error}"
        raise RecordError("bad file name", where, what) from None

from types import SimpleNamespace

import pytest

from glipv2_d2.errors import UsageError
from glipv2_d2.scenes.answered_questions import answer_accuracy, wording_oracle


def record(number, question, answer, kind="color"):
    size = {"height": 4, "width": 4}
    fields = {"caption": question, "answers": {answer: 1.0}, "question_type": kind}
    return {"image_id": number, "file_name": f"{answer}.jpg", **size, **fields}


class FileNameReader:
    """A model that answers with the name of the picture that it is shown."""

    vqa_head = SimpleNamespace()

    def __init__(self):
        self.batches = []

    def __call__(self, inputs):
        self.batches.append(len(inputs))
        return [{"answer": x["file_name"].removesuffix(".jpg")} for x in inputs]


def test_right_and_other_image_by_hand():
    records = [
        record(1, "what color is the star?", "red"),
        record(2, "how many stars are there?", "2", "count"),
        record(3, "what color is the ring?", "red"),
        record(4, "how many rings are there?", "3", "count"),
    ]
    model = FileNameReader()
    numbers = answer_accuracy(model, records, dict, batch_size=3)
    assert model.batches == [3, 1, 3, 1]
    assert numbers["right_image"] == {"all": 1.0, "color": 1.0, "count": 1.0}
    assert numbers["other_image"] == {"all": 0.5, "color": 1.0, "count": 0.0}


def test_words_alone_by_hand():
    known = [
        *[record(0, "what color is the star?", answer) for answer in ("red", "red", "blue")],
        *[record(0, f"is it left of the {x}?", "yes") for x in ("star", "ring", "cross")],
        *[record(0, f"is it left of the {x}?", "no") for x in ("moon",)],
    ]
    asked = [
        record(1, "what color is the star?", "red"),
        record(2, "is it left of the moon?", "no", "yes/no"),  # as it is known
        record(3, "is it left of the heart?", "no", "yes/no"),  # its beginning mostly: yes
        record(4, "how many?", "yes", "count"),  # nothing of it: the answer to most questions
    ]
    expected = {"all": 0.75, "color": 1.0, "count": 1.0, "yes/no": 0.5}
    assert wording_oracle(known, asked) == expected


def test_what_cannot_be_measured_is_named():
    one = [record(1, "what color is the star?", "red")]
    with pytest.raises(UsageError, match="two or more"):
        answer_accuracy(FileNameReader(), one, dict)
    with pytest.raises(UsageError, match="vqa_head"):
        answer_accuracy(SimpleNamespace(), one * 2, dict)

"""What a run has found outlives it, as far as it is still true."""

import json

import pytest

from glipv2_d2.cli.detection.journal import Journal
from glipv2_d2.errors import UsageError

SETTINGS = {"prompt": "cat", "threshold": 0.3}


@pytest.fixture
def journal_path(tmp_path):
    """Of a journal of one run: a.png went well, b.png failed."""
    for name in ("a.png", "a.jpg", "b.png"):
        (tmp_path / name).write_bytes(b"image")
    with Journal(tmp_path / "detections.jsonl", SETTINGS) as journal:
        for name, error in (("a", None), ("b", "cannot be read")):
            entry = {"file": str(tmp_path / f"{name}.png"), "image": {"picture": f"{name}.jpg"}}
            journal.add({**entry, "detections": [], "error": error})
    return tmp_path / "detections.jsonl"


def names(path, settings=SETTINGS):
    return [file[-5:] for file in Journal(path, settings).entries]


def test_what_was_found_is_kept_and_what_failed_is_not(journal_path):
    assert names(journal_path) == ["a.png"]


def test_an_entry_without_a_picture_is_kept(journal_path):
    with Journal(journal_path, SETTINGS) as journal:
        file = str(journal_path.parent / "b.png")
        journal.add({"file": file, "image": {"height": 60}, "error": None})
    assert names(journal_path) == ["a.png", "b.png"]


def test_a_line_that_was_not_written_to_its_end_is_left_out(journal_path):
    with open(journal_path, "a") as file:
        file.write('{"file": "c.png')
    assert names(journal_path) == ["a.png"]


@pytest.mark.parametrize("text", ["", "mine", "[1, 2]", '{"image_id": 1}\n{"image_id": 2}'])
def test_a_file_of_another_program_is_not_replaced(tmp_path, text):
    (tmp_path / "detections.jsonl").write_text(text)
    with pytest.raises(UsageError, match="give another --output, or move it away"):
        Journal(tmp_path / "detections.jsonl", SETTINGS)
    assert (tmp_path / "detections.jsonl").read_text() == text


@pytest.mark.parametrize("change", [b"other image", None])
def test_an_image_that_has_changed_is_asked_again(journal_path, change):
    if change is None:
        (journal_path.parent / "a.jpg").unlink()  # its picture
    else:
        (journal_path.parent / "a.png").write_bytes(change)
    assert names(journal_path) == []


def test_another_setting_takes_nothing_and_is_named(journal_path):
    journal = Journal(journal_path, {**SETTINGS, "threshold": 0.5})
    assert journal.entries == {} and journal.other_settings == ["threshold"]


def test_entering_it_keeps_what_it_has(journal_path):
    with Journal(journal_path, SETTINGS):
        pass
    settings, entry = map(json.loads, journal_path.read_text().splitlines())
    assert settings == {"settings": SETTINGS} and entry["file"].endswith("a.png")

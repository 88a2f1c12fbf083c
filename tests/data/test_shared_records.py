"""Records that are read once per machine: what each process sees, errors, and what is left."""

import json
import os
import pickle
import tempfile
from functools import partial

import pytest
from detectron2.data import MetadataCatalog
from detectron2.utils import comm
from torch.utils.data import DataLoader

from glipv2_d2 import compat
from glipv2_d2.data import register_coco_dataset
from glipv2_d2.data.loading import load_records, training_records
from glipv2_d2.data.report import Report
from glipv2_d2.data.shared_records import SharedRecords, share_records
from glipv2_d2.errors import DataError

RECORDS = [{"image_id": i, "boxes": list(range(i))} for i in range(7)]


def test_a_sequence_of_equal_records():
    records = SharedRecords(iter(RECORDS))
    assert len(records) == 7 and list(records) == RECORDS
    assert records[-1] == RECORDS[-1] and records[2:5] == RECORDS[2:5] and records[5:1] == []
    for index in (7, -8):
        with pytest.raises(IndexError):
            records[index]
    records[3]["boxes"].clear()
    assert records[3] == RECORDS[3]
    assert list(SharedRecords([])) == []


def test_data_workers_share_the_file():
    """A forked one has the mapping; a spawned one gets the records pickled."""
    records = SharedRecords(RECORDS)
    assert list(DataLoader(records, batch_size=None, num_workers=1)) == RECORDS
    pickled = pickle.dumps(records)
    copy = pickle.loads(pickled)
    assert list(copy) == RECORDS and copy.place()[1:] == records.place()[1:]
    assert len(pickled) < 300


def test_another_file_at_the_place_is_refused():
    records = SharedRecords(RECORDS)
    place = records.place()
    with pytest.raises(OSError, match="another file"):
        SharedRecords.at(place._replace(inode=place.inode + 1))
    del records
    with pytest.raises(OSError):
        SharedRecords.at(place)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a disk that is always full")
def test_a_full_disk_names_the_remedy(monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: open("/dev/full", "w+b"))
    with pytest.raises(DataError, match=r"do not fit into .*: set TMPDIR to a folder"):
        SharedRecords(RECORDS)


def read_and_count(folder, error=None):
    with open(folder / "reads", "a") as file:
        file.write(".")
    found = {}

    def records():
        for record in RECORDS:
            found["boxes"] = found.get("boxes", 0) + len(record["boxes"])
            yield record
        if error is not None:
            raise error

    return records(), found


def two_process_main(folder, coco_json):
    records, found = share_records(partial(read_and_count, folder))
    seen = {"records": list(records), "found": found, "file": records.place()[1:]}
    for kind, error in (("mended", DataError("a.json: bad")), ("bug", ZeroDivisionError("no"))):
        try:
            share_records(partial(read_and_count, folder, error))
        except Exception as raised:
            seen[kind] = [type(raised).__name__, str(raised)]
    register_coco_dataset("shared_coco", str(coco_json), str(coco_json.parent / "images"))
    if comm.get_rank() == 0:  # as the check of the test sets does
        load_records("shared_coco")
    seen["stored"] = len(training_records("shared_coco", Report()))
    seen["classes"] = MetadataCatalog.get("shared_coco").thing_classes
    (folder / f"{comm.get_rank()}.json").write_text(json.dumps(seen))


def test_two_processes_read_once_and_fail_alike(tmp_path, coco_json, quick_processes):
    compat.launch(two_process_main, 0, num_processes=2, dist_url="auto", args=(tmp_path, coco_json))
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    bugs = [seen.pop("bug") for seen in (first, second)]
    assert first == second
    assert first["records"] == RECORDS and first["found"] == {"boxes": 21}
    assert first["mended"] == ["DataError", "a.json: bad"]
    assert first["stored"] == 12 and first["classes"] == ["cat", "caterpillar", "cat_food"]
    assert bugs[0] == ["ZeroDivisionError", "no"]
    assert bugs[1][0] == "RuntimeError" and "ZeroDivisionError: no" in bugs[1][1]
    assert (tmp_path / "reads").read_text() == "..."  # once each, not once per process


def test_the_file_never_has_a_name(tmp_path, monkeypatch):
    """So that nothing is left behind, whatever kills the run."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def records():
        for record in RECORDS:
            assert not list(tmp_path.iterdir())
            yield record

    shared = SharedRecords(records())
    assert not list(tmp_path.iterdir())
    where = os.readlink(shared.place().path)
    assert where.startswith(str(tmp_path)) and where.endswith("(deleted)")
